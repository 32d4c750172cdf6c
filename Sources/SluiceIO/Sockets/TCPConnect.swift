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

extension TCP {
  /// Connects to a host, trying all its addresses (Happy Eyeballs, RFC 8305): IPv6 and IPv4 take turns, the next address
  /// starts 250 ms after the one before, or as soon as that has failed, and the first connection wins.
  ///
  /// - Parameter timeout: Time for all of it, name resolution included. Default: 10 seconds.
  /// - Throws: `IOError`: what the resolver says, ETIMEDOUT, or the failure of the first address when all have failed.
  public static func connect(
    _ host: String, port: Int, timeout: Duration = .seconds(10), options: Options = Options(),
    on loop: UVLoop = .shared
  ) async throws -> SocketStream {
    let name = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
    guard (1...65535).contains(port) else {
      throw IOError(operation: "connect", subject: name, code: "EINVAL", reason: "invalid port (expected 1–65535)")
    }
    let start = ContinuousClock.now
    let addresses = try await withDeadline(timeout, "resolve", name, on: loop) {
      try await Resolver.resolve(host, port: port, on: loop)
    }
    .filter { options.family == .any || $0.isIPv6 == (options.family == .ipv6) }
    guard !addresses.isEmpty else {
      throw IOError("connect", name, status: UV_EAFNOSUPPORT.rawValue)
    }
    let left = max(timeout - (ContinuousClock.now - start), .zero)
    let race = ConnectRace(name, interleave(addresses), timeout: left, options: options, on: loop)
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        loop.perform { race.start(continuation) }
      }
    } onCancel: {
      loop.perform { race.finish(.failure(CancellationError())) }
    }
  }

  /// RFC 8305 §4: the families take turns, beginning with that of the first address.
  private static func interleave(_ addresses: [SocketAddress]) -> [SocketAddress] {
    guard let first = addresses.first else { return [] }
    let preferred = addresses.filter { $0.isIPv6 == first.isIPv6 }
    let others = addresses.filter { $0.isIPv6 != first.isIPv6 }
    return (0..<max(preferred.count, others.count)).flatMap { index in
      [preferred, others].compactMap { index < $0.count ? $0[index] : nil }
    }
  }

  /// Cancels `body` when the time is up.
  private static func withDeadline<R: Sendable>(
    _ time: Duration, _ operation: String, _ subject: String, on loop: UVLoop,
    _ body: @escaping @Sendable () async throws -> R
  ) async throws -> R {
    let task = Task { try await body() }
    let timer = try await loop.run { loop.schedule(after: time) { task.cancel() } }
    defer { loop.perform { loop.cancelTimer(timer) } }
    do {
      return try await withTaskCancellationHandler {
        try await task.value
      } onCancel: {
        task.cancel()
      }
    } catch is CancellationError where !Task.isCancelled {
      throw IOError(operation, subject, status: UV_ETIMEDOUT.rawValue)
    }
  }
}

/// Attempts at the addresses of one host, side by side. On its loop only.
private final class ConnectRace: @unchecked Sendable {
  /// RFC 8305 §5: the Connection Attempt Delay.
  private static let attemptDelay = Duration.milliseconds(250)

  private let loop: UVLoop
  private let name: String
  private let options: TCP.Options
  private let timeout: Duration
  private var waiting: ArraySlice<SocketAddress>
  private var attempts: [ObjectIdentifier: ConnectAttempt] = [:]
  private var firstFailure: IOError?
  private var nextAttempt: LoopTimer?
  private var deadline: LoopTimer?
  private var continuation: CheckedContinuation<SocketStream, any Error>?
  private var isFinished = false

  init(_ name: String, _ addresses: [SocketAddress], timeout: Duration, options: TCP.Options, on loop: UVLoop) {
    self.name = name
    waiting = addresses[...]
    self.timeout = timeout
    self.options = options
    self.loop = loop
  }

  func start(_ continuation: CheckedContinuation<SocketStream, any Error>) {
    if isFinished { return continuation.resume(throwing: CancellationError()) }
    self.continuation = continuation
    deadline = loop.schedule(after: timeout) {
      self.finish(.failure(IOError("connect", self.name, status: UV_ETIMEDOUT.rawValue)))
    }
    tryNext()
  }

  private func tryNext() {
    if let nextAttempt { loop.cancelTimer(nextAttempt) }
    nextAttempt = nil
    guard let address = waiting.popFirst() else { return }
    do {
      let attempt = try ConnectAttempt(address, from: options.localAddress, on: loop) { self.didEnd($0, $1) }
      attempts[ObjectIdentifier(attempt)] = attempt
    } catch {
      return didFail(error)
    }
    if !waiting.isEmpty { nextAttempt = loop.schedule(after: Self.attemptDelay) { self.tryNext() } }
  }

  private func didEnd(_ attempt: ConnectAttempt, _ status: CInt) {
    guard attempts.removeValue(forKey: ObjectIdentifier(attempt)) != nil else { return }
    if status == 0 {
      finish(.success(attempt.adopt(options)))
    } else {
      attempt.discard()
      didFail(IOError("connect", attempt.address.description, status: status))
    }
  }

  private func didFail(_ error: any Error) {
    if firstFailure == nil { firstFailure = error as? IOError }
    if !waiting.isEmpty { return tryNext() }
    if attempts.isEmpty { finish(.failure(firstFailure ?? error)) }
  }

  func finish(_ result: Result<SocketStream, any Error>) {
    if isFinished { return }
    isFinished = true
    if let nextAttempt { loop.cancelTimer(nextAttempt) }
    if let deadline { loop.cancelTimer(deadline) }
    for attempt in attempts.values { attempt.discard() }
    attempts = [:]
    continuation?.resume(with: result)
    continuation = nil
  }
}

/// One connection under way.
private final class ConnectAttempt: LoopResident {
  let address: SocketAddress
  private let loop: UVLoop
  private var watch: DescriptorWatch
  private let completion: (ConnectAttempt, CInt) -> Void

  /// - Parameter completion: Is called once on the loop, with a libuv status.
  init(
    _ address: SocketAddress, from localAddress: String?, on loop: UVLoop,
    completion: @escaping (ConnectAttempt, CInt) -> Void
  ) throws {
    self.address = address
    self.loop = loop
    self.completion = completion
    watch = try Self.begin(address, from: localAddress, on: loop)
    unsafe watch.belong(to: self) { owner, _, _ in
      let this = unsafe Unmanaged<ConnectAttempt>.fromOpaque(owner).takeUnretainedValue()
      this.completion(this, sluice_connected(this.watch.descriptor))
    }
    let status = watch.start(.writable)
    guard status == 0 else {
      discard()
      throw IOError("connect", address.description, status: status)
    }
  }

  private static func begin(
    _ address: SocketAddress, from localAddress: String?, on loop: UVLoop
  ) throws -> DescriptorWatch {
    let descriptor = sluice_socket(address.isIPv6 ? AF_INET6 : AF_INET)
    guard descriptor >= 0 else { throw IOError("socket for", address.description, status: descriptor) }
    let watch = try DescriptorWatch(descriptor, on: loop, operation: "socket for", subject: address.description)
    if let localAddress { try bind(descriptor, to: localAddress) }
    let status = unsafe address.withAddress { unsafe sluice_connect(descriptor, $0, address.length) }
    guard status == 0 else { throw IOError("connect", address.description, status: status) }
    return watch
  }

  private static func bind(_ descriptor: CInt, to localAddress: String) throws {
    guard let own = SocketAddress(numeric: localAddress, port: 0) else {
      throw IOError(operation: "connect from", subject: localAddress, code: "EINVAL", reason: "invalid IP address")
    }
    guard unsafe own.withAddress({ unsafe systemBind(descriptor, $0, own.length) }) == 0 else {
      throw IOError("connect from", localAddress, status: -errno)
    }
  }

  /// The connection that has come about.
  func adopt(_ options: TCP.Options) -> SocketStream {
    SocketStream(watch.handOver(), on: loop, name: address.description, options)
  }

  func loopWillEnd() { completion(self, UV_ECANCELED.rawValue) }

  /// Gives the connection up, under way or not.
  func discard() { watch.close() }
}
