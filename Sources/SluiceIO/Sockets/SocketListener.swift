import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A listening socket: a readable stream of connections. While nobody reads it, the kernel's queue fills and new peers wait.
///
/// ```swift
/// let listener = try await TCP.listen("127.0.0.1", port: 0)
/// for try await connection in listener { … }
/// ```
@safe public final class SocketListener: PolledReadableStream, @unchecked Sendable {  // touched on its loop only
  public typealias Output = SocketStream

  package let uvLoop: UVLoop
  /// The address listened on, with the port that the system chose: "127.0.0.1:49152".
  public let name: String
  /// The port listened on; 0 for a Unix socket.
  public let port: Int
  private let handle: UnsafeMutablePointer<uv_stream_t>
  private let makeClient: (UVLoop) -> UnsafeMutablePointer<uv_stream_t>?
  private let describePeer: (UnsafeMutablePointer<uv_stream_t>) -> String
  /// The file of a Unix socket, which goes when the listening does.
  private let fileToRemove: SocketFile?
  private var waiting = 0
  private var isCancelled = false
  private var reader: (any Waker)?

  init(
    adopting handle: UnsafeMutablePointer<uv_stream_t>, on loop: UVLoop, name: String, port: Int, backlog: Int,
    fileToRemove: SocketFile? = nil,
    makeClient: @escaping (UVLoop) -> UnsafeMutablePointer<uv_stream_t>?,
    describePeer: @escaping (UnsafeMutablePointer<uv_stream_t>) -> String
  ) throws {
    uvLoop = loop
    unsafe self.handle = handle
    self.name = name
    self.port = port
    self.fileToRemove = fileToRemove
    unsafe self.makeClient = unsafe makeClient
    unsafe self.describePeer = unsafe describePeer
    let status = unsafe uv_listen(handle, CInt(clamping: backlog)) { handle, status in
      let listener = unsafe Unmanaged<SocketListener>.fromOpaque(handle!.pointee.data).takeUnretainedValue()
      listener.didConnect(status: status)
    }
    guard status == 0 else { throw IOError("listen on", name, status: status) }
    unsafe handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  public var loop: any Loop { uvLoop }

  private func didConnect(status: CInt) {
    uvLoop.turn {
      if status == 0 { waiting += 1 }
      reader?.wake()
    }
  }

  public func poll() throws -> Polled<SocketStream> {
    if isCancelled { return .end }
    while waiting > 0 {
      waiting -= 1
      guard let client = unsafe makeClient(uvLoop) else { continue }
      let status = unsafe uv_accept(handle, client)
      guard status == 0 else {
        unsafe closeAndFree(client)
        continue
      }
      return unsafe .element(SocketStream(adopting: client, on: uvLoop, name: describePeer(client)))
    }
    return .pending
  }

  public func attachReader(_ waker: any Waker) throws {
    guard reader == nil else { throw StreamError.concurrentRead }
    reader = waker
  }

  public var hasReader: Bool { reader != nil }

  public func detachReader() { reader = nil }

  /// Stops listening. Connections that were accepted go on.
  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      guard !self.isCancelled else { return }
      self.isCancelled = true
      self.fileToRemove?.remove()
      unsafe uv_close(UnsafeMutableRawPointer(self.handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
        unsafe Unmanaged<SocketListener>.fromOpaque(handle!.pointee.data).release()
        unsafe UnsafeMutableRawPointer(handle!).deallocate()
      }
      self.reader?.wake()
    }
  }
}

/// Gives up a handle that no stream has taken over.
func closeAndFree(_ handle: UnsafeMutablePointer<uv_stream_t>) {
  unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
    unsafe UnsafeMutableRawPointer(handle!).deallocate()
  }
}
