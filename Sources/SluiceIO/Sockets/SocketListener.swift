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
///
/// When the process or the system has no descriptor or memory for one more connection (EMFILE, ENFILE, ENOBUFS, ENOMEM), the
/// peers wait too: it is tried again every 100 ms, and `onExhaustion` tells.
@safe public final class SocketListener: PolledReadableStream, LoopResident, @unchecked Sendable {
  // touched on its loop only
  public typealias Output = SocketStream

  package let uvLoop: UVLoop
  /// The address listened on, with the port that the system chose: "127.0.0.1:49152".
  public let name: String
  /// The port listened on; 0 for a Unix socket.
  public let port: Int
  private let descriptor: CInt
  private let watch: UnsafeMutablePointer<uv_poll_t>
  /// Makes a stream of an accepted descriptor, or closes it.
  private let adopt: (CInt) throws -> SocketStream
  /// The file of a Unix socket, which goes when the listening does.
  private let fileToRemove: SocketFile?
  private var state = State.idle
  private var acceptedInTurn = 0
  private var reader: (any Waker)?
  private var exhaustionObserver: (@Sendable (IOError) -> Void)?

  private enum State {
    case idle
    /// The loop tells when there is a connection.
    case watching
    /// There was no descriptor or memory for a connection.
    case paused(LoopTimer)
    case ended
    case failed(IOError)
  }

  /// Connections accepted before the other sockets are looked at again.
  private static let acceptsPerTurn = 64
  private static let pause = Duration.milliseconds(100)

  /// Takes over a descriptor that listens and does not block; closes it if it throws. On the loop only.
  init(
    adopting descriptor: CInt, on loop: UVLoop, name: String, port: Int, fileToRemove: SocketFile? = nil,
    adopt: @escaping (CInt) throws -> SocketStream
  ) throws {
    let watch = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
    do {
      let uv = try unsafe loop.handle(for: "listen on", name)
      let status = unsafe uv_poll_init(uv, watch, descriptor)
      guard status == 0 else { throw IOError("listen on", name, status: status) }
    } catch {
      unsafe watch.deallocate()
      _ = closeDescriptor(descriptor)
      throw error
    }
    uvLoop = loop
    unsafe self.watch = watch
    self.descriptor = descriptor
    self.name = name
    self.port = port
    self.fileToRemove = fileToRemove
    self.adopt = adopt
    unsafe watch.pointee.data = Unmanaged.passRetained(self).toOpaque()
  }

  public var loop: any Loop { uvLoop }

  /// Has a closure called, on the loop, each time that there was no descriptor or memory for a connection: ten times in a
  /// second at the most.
  public func onExhaustion(_ observer: @escaping @Sendable (IOError) -> Void) {
    uvLoop.perform { self.exhaustionObserver = observer }
  }

  // MARK: accepting

  public func poll() throws -> Polled<SocketStream> {
    switch state {
    case .idle, .watching: break
    case .paused: return .pending
    case .ended: return .end
    case .failed(let error): throw error
    }
    while acceptedInTurn < Self.acceptsPerTurn {
      acceptedInTurn += 1
      let accepted = sluice_accept(descriptor)
      if accepted >= 0 {
        guard let stream = try? adopt(accepted) else { continue }
        return .element(stream)
      }
      switch accepted {
      case UV_EAGAIN.rawValue: return try startWatching()
      case UV_EMFILE.rawValue, UV_ENFILE.rawValue, UV_ENOBUFS.rawValue, UV_ENOMEM.rawValue:
        pause(IOError("accept on", name, status: accepted))
        return .pending
      case -EBADF, -EINVAL, -ENOTSOCK, -EOPNOTSUPP, -EFAULT:
        throw fail(IOError("accept on", name, status: accepted))
      default: continue  // accept(2): of this connection, which is gone
      }
    }
    return try startWatching()
  }

  private func startWatching() throws -> Polled<SocketStream> {
    guard case .idle = state else { return .pending }
    let status = unsafe uv_poll_start(watch, CInt(UV_READABLE.rawValue)) { watch, status, _ in
      // The handle keeps the listener alive.
      unsafe Unmanaged<SocketListener>.fromOpaque(watch!.pointee.data)._withUnsafeGuaranteedRef {
        if status != 0 { $0.state = .idle }
        $0.mayAccept()
      }
    }
    guard status == 0 else { throw fail(IOError("listen on", name, status: status)) }
    state = .watching
    return .pending
  }

  private func mayAccept() {
    acceptedInTurn = 0
    uvLoop.turn { reader?.wake() }
    // Nobody has read: the peers wait.
    if acceptedInTurn == 0, case .watching = state { stopWatching() }
    acceptedInTurn = 0
  }

  private func stopWatching() {
    unsafe uv_poll_stop(watch)
    state = .idle
  }

  private func pause(_ error: IOError) {
    if case .watching = state { stopWatching() }
    state = .paused(
      uvLoop.schedule(after: Self.pause) {
        self.state = .idle
        self.acceptedInTurn = 0
        self.reader?.wake()
      })
    exhaustionObserver?(error)
  }

  public func attachReader(_ waker: any Waker) throws {
    guard reader == nil else { throw StreamError.concurrentRead }
    reader = waker
  }

  public var hasReader: Bool { reader != nil }

  public func detachReader() { reader = nil }

  // MARK: ending

  /// Stops listening. Connections that were accepted go on.
  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform { self.end(.ended) }
  }

  func loopWillEnd() { _ = fail(IOError("listen on", name, status: UV_ECANCELED.rawValue)) }

  private func fail(_ error: IOError) -> IOError {
    end(.failed(error))
    return error
  }

  private func end(_ end: State) {
    switch state {
    case .ended, .failed: return
    case .paused(let timer): uvLoop.cancelTimer(timer)
    case .idle, .watching: break
    }
    state = end
    fileToRemove?.remove()
    unsafe uv_close(UnsafeMutableRawPointer(watch).assumingMemoryBound(to: uv_handle_t.self)) { watch in
      let listener = unsafe Unmanaged<SocketListener>.fromOpaque(watch!.pointee.data).takeRetainedValue()
      _ = closeDescriptor(listener.descriptor)
      unsafe listener.watch.deallocate()
    }
    reader?.wake()
  }
}

/// Gives up a handle that no stream has taken over.
func closeAndFree(_ handle: UnsafeMutablePointer<uv_stream_t>) {
  unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
    unsafe UnsafeMutableRawPointer(handle!).deallocate()
  }
}
