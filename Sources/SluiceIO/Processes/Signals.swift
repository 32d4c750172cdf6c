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

/// A signal of the operating system.
public struct Signal: Hashable, Sendable {
  public let number: Int32
  public init(number: Int32) { self.number = number }

  public static let interrupt = Signal(number: SIGINT)
  public static let terminate = Signal(number: SIGTERM)
  public static let hangUp = Signal(number: SIGHUP)
  public static let kill = Signal(number: SIGKILL)
  public static let user1 = Signal(number: SIGUSR1)
  public static let user2 = Signal(number: SIGUSR2)
  public static let child = Signal(number: SIGCHLD)
  public static let `continue` = Signal(number: SIGCONT)
  public static let windowChange = Signal(number: SIGWINCH)

  /// Whether this process ignores it, as one that `nohup` has started does SIGHUP: then it is not for the process to catch it.
  public var isIgnored: Bool { sluice_ignores(number) }
}

/// The signals that this process receives, as a readable stream; while it is open, they have no other effect.
///
/// ```swift
/// for try await signal in Signals([.interrupt, .terminate]) { server.stop() }
/// ```
///
/// Several of one kind that come while nobody reads may be one element.
@safe public final class Signals: PolledReadableStream, ReaderHolding, LoopResident, @unchecked Sendable {
  // touched on its loop only
  public typealias Output = Signal

  private let uvLoop: UVLoop
  private let wanted: [Signal]
  private var handles: [UnsafeMutablePointer<uv_signal_t>] = unsafe []
  private var received: [Signal] = []
  private var isCancelled = false
  private var failure: IOError?
  private var reader = ReaderSlot()

  /// Begins to catch the signals. KILL and STOP can't be caught: reading throws then.
  public init(_ signals: [Signal], on loop: UVLoop = .shared) {
    uvLoop = loop
    wanted = signals
    loop.perform { self.start() }
  }

  public var loop: any Loop { uvLoop }

  private func start() {
    let uv: UnsafeMutablePointer<uv_loop_t>
    do { unsafe uv = try uvLoop.libuv(for: "catch", "signals") } catch { return fail(error) }
    for signal in wanted {
      let handle = UnsafeMutablePointer<uv_signal_t>.allocate(capacity: 1)
      unsafe uv_signal_init(uv, handle)
      unsafe handle.pointee.data = Unmanaged.passRetained(self).toOpaque()
      unsafe handles.append(handle)
      let status = unsafe uv_signal_start(
        handle,
        { handle, number in
          let this = unsafe Unmanaged<Signals>.fromOpaque(handle!.pointee.data).takeUnretainedValue()
          this.uvLoop.turn { this.didReceive(Signal(number: number)) }
        }, signal.number)
      if status != 0 { failure = IOError("catch", "signal \(signal.number)", status: status) }
    }
  }

  private func didReceive(_ signal: Signal) {
    if !received.contains(signal) { received.append(signal) }
    tellReader()
  }

  public func poll() throws -> Polled<Signal> {
    if let failure { throw failure }
    if isCancelled { return .end }
    return received.isEmpty ? .pending : .element(received.removeFirst())
  }

  @usableFromInline
  package func withReader<R>(_ body: (inout ReaderSlot) throws -> R) rethrows -> R { try body(&reader) }

  /// Gives the signals back their default effect.
  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      guard !self.isCancelled else { return }
      self.isCancelled = true
      self.closeHandles()
      self.tellReader()
    }
  }

  func loopWillEnd() {
    fail(IOError("catch", "signals", status: UV_ECANCELED.rawValue))
    closeHandles()
  }

  private func fail(_ error: IOError) {
    failure = error
    tellReader()
  }

  private func closeHandles() {
    uvLoop.closesOnLibuv()
    while let handle = unsafe handles.popLast() {
      unsafe uv_close(UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)) { handle in
        unsafe Unmanaged<Signals>.fromOpaque(handle!.pointee.data).release()
        unsafe UnsafeMutableRawPointer(handle!).deallocate()
      }
    }
  }
}
