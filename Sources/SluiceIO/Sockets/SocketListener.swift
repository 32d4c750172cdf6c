import CSluiceSystem
import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
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
@safe public final class SocketListener: PolledReadableStream, ReaderHolding, LoopResident, @unchecked Sendable {
  // touched on its loop only
  public typealias Output = SocketStream

  package let uvLoop: UVLoop
  /// The address listened on, with the port that the system chose: "127.0.0.1:49152".
  public let name: String
  /// The port listened on; 0 for a Unix socket.
  public let port: Int
  private var watch: DescriptorWatch
  /// Makes a stream of an accepted descriptor, or closes it.
  private let adopt: (CInt) throws -> SocketStream
  /// The file of a Unix socket, which goes when the listening does.
  private let fileToRemove: SocketFile?
  private var state = State.open
  private var acceptedInTurn = 0
  private var reader = ReaderSlot()
  private var exhaustionObserver: (@Sendable (IOError) -> Void)?
  /// When it was last called.
  private var lastToldExhaustion: Duration?

  private enum State {
    case open
    /// It gives this connection, which was accepted elsewhere, and ends.
    case given(CInt)
    /// There was no descriptor or memory for a connection.
    case paused(LoopTimer)
    case ended
    case failed(IOError)
  }

  /// Connections accepted before the other sockets are looked at again.
  private static let acceptsPerTurn = 64
  private static let pause = Duration.milliseconds(100)
  private static let exhaustionInterval = Duration.seconds(10)

  /// Takes over a descriptor that listens and does not block; closes it if it throws. On the loop only.
  /// - Parameter connection: What it gives instead of accepting; the first is another descriptor of it.
  init(
    adopting descriptor: CInt, on loop: UVLoop, name: String, port: Int, fileToRemove: SocketFile? = nil,
    connection: CInt? = nil, adopt: @escaping (CInt) throws -> SocketStream
  ) throws {
    watch = try DescriptorWatch(descriptor, on: loop, operation: "listen on", subject: name)
    uvLoop = loop
    self.name = name
    self.port = port
    self.fileToRemove = fileToRemove
    self.adopt = adopt
    if let connection { state = .given(connection) }
    unsafe watch.belong(to: self) { owner, _, _ in
      // The watch keeps the listener alive.
      unsafe Unmanaged<SocketListener>.fromOpaque(owner)._withUnsafeGuaranteedRef { $0.mayAccept() }
    }
  }

  public var loop: any Loop { uvLoop }

  /// Has a closure called, on the loop, when there was no descriptor or memory for a connection: the first time, and as long as that lasts
  /// every ten seconds.
  public func onExhaustion(_ observer: @escaping @Sendable (IOError) -> Void) {
    uvLoop.perform { self.exhaustionObserver = observer }
  }

  // MARK: accepting

  public func poll() throws -> Polled<SocketStream> {
    switch state {
    case .open: break
    case .given(let connection):
      state = .open
      end(.ended)
      return .element(try adopt(connection))
    case .paused: return .pending
    case .ended: return .end
    case .failed(let error): throw error
    }
    while acceptedInTurn < Self.acceptsPerTurn {
      acceptedInTurn += 1
      let accepted = sluice_accept(watch.descriptor)
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
    let status = watch.start(.readable)
    if status == 0 { return .pending }
    let error = IOError("listen on", name, status: status)
    // epoll_ctl(2): there is no memory, or no further watch for this user. That passes as a lack of descriptors does.
    guard status == -ENOMEM || status == -ENOSPC else { throw fail(error) }
    pause(error)
    return .pending
  }

  private func mayAccept() {
    acceptedInTurn = 0
    tellReader()
    // Nobody has read: the peers wait.
    if acceptedInTurn == 0 { watch.stop(.readable) }
    acceptedInTurn = 0
  }

  private func pause(_ error: IOError) {
    watch.stop(.readable)
    state = .paused(
      uvLoop.schedule(after: Self.pause) {
        self.state = .open
        self.acceptedInTurn = 0
        self.tellReader()
      })
    let now = uvLoop.now
    if let lastToldExhaustion, now - lastToldExhaustion < Self.exhaustionInterval { return }
    lastToldExhaustion = now
    exhaustionObserver?(error)
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

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
    case .given(let connection): _ = closeDescriptor(connection)
    case .open: break
    }
    state = end
    fileToRemove?.remove()
    watch.close()
    tellReader()
  }
}
