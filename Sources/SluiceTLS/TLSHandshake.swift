import CSluiceOpenSSL
import SluiceStreams

/// A handshake under way, in the loop's callbacks.
package final class TLSHandshake: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private let transport: TLSStream.Transport
  private let engine: TLSEngine
  private let timeout: Duration
  private var timer: LoopTimer?
  private var completion: ((Result<TLSStream, any Error>) -> Void)?

  private init(
    _ engine: TLSEngine, over transport: TLSStream.Transport, within timeout: Duration,
    _ completion: @escaping (Result<TLSStream, any Error>) -> Void
  ) {
    self.engine = engine
    self.transport = transport
    self.timeout = timeout
    self.completion = completion
  }

  /// A server's side of a connection. On the transport's loop.
  /// - Parameters:
  ///   - time: A limit beside that of the options.
  ///   - completion: Is called once. The transport is closed if there is no TLS.
  package static func accept(
    over transport: TLSStream.Transport, _ context: TLSServerContext, within time: Duration? = nil,
    _ completion: @escaping (Result<TLSStream, any Error>) -> Void
  ) -> TLSHandshake? {
    let certificates = context.certificates
    let own = certificates.options.handshakeTimeout
    return start(over: transport, within: time.map { min($0, own) } ?? own, completion) {
      () throws(TLSError) in try TLSEngine(certificates)
    }
  }

  /// A client's side of a connection. On the transport's loop.
  static func connect(
    over transport: TLSStream.Transport, to name: String, _ context: TLSClientContext,
    _ completion: @escaping (Result<TLSStream, any Error>) -> Void
  ) {
    _ = start(over: transport, within: context.options.handshakeTimeout, completion) {
      () throws(TLSError) in try TLSEngine(context, to: name)
    }
  }

  private static func start(
    over transport: TLSStream.Transport, within timeout: Duration,
    _ completion: @escaping (Result<TLSStream, any Error>) -> Void, _ makeEngine: () throws(TLSError) -> TLSEngine
  ) -> TLSHandshake? {
    do {
      let handshake = TLSHandshake(try makeEngine(), over: transport, within: timeout, completion)
      handshake.start()
      return handshake
    } catch {
      transport.abort(error)
      completion(.failure(error))
      return nil
    }
  }

  private func start() {
    timer = transport.loop.schedule(after: timeout) { self.giveUp(TLSError.timeout(self.timeout)) }
    engine.offerKernel(of: transport)
    do { try transport.attachReader(self) } catch { return giveUp(error) }
    wake()
  }

  package var isUnderWay: Bool { completion != nil }

  package func wake() {
    guard completion != nil else { return }
    do {
      while true {
        if engine.output.capacity == 0 { engine.output = transport.loop.scratch.take() }
        switch try engine.handshake() {
        case .done: return try finish()
        case .closed: throw TLSError.endedEarly
        case .wantsInput: break
        }
        try sendOutput()
        switch try transport.poll() {
        case .element(let bytes): engine.feed(bytes)
        case .pending: return
        case .end: throw TLSError.endedEarly
        }
      }
    } catch {
      giveUp(error)
    }
  }

  private func sendOutput() throws { try transport.sendGathered(engine.takeOutput(), backTo: transport.loop.scratch) }

  private func finish() throws {
    guard let completion = take() else { return }
    transport.detachReader()
    do { completion(.success(try TLSStream(engine, over: transport))) } catch {
      transport.abort(error)
      completion(.failure(error))
    }
  }

  /// Ends what is not done: a failure, the time limit, or a server that stops.
  package func giveUp(_ reason: any Error) {
    guard let completion = take() else { return }
    Reached.mark("tls.handshakeGivenUp")
    transport.detachReader()
    // What the peer is told, an alert, is flushed before the connection ends, if that is soon.
    do {
      try sendOutput()
      transport.cancel(nil)
      let transport = transport
      let cut = transport.loop.schedule(after: .seconds(1)) { transport.abort(reason) }
      transport.closeWhenFlushed { error in
        transport.loop.cancelTimer(cut)
        if error != nil { transport.abort(reason) }
      }
    } catch {
      transport.abort(reason)
    }
    completion(.failure(reason))
  }

  private func take() -> ((Result<TLSStream, any Error>) -> Void)? {
    defer { completion = nil }
    if let timer { transport.loop.cancelTimer(timer) }
    timer = nil
    return completion
  }
}

extension TLSClientContext {
  /// Does a client's handshake on a byte stream.
  /// - Parameter name: The host name or address that was connected to, to be asked for and verified (RFC 9525).
  /// - Throws: `TLSError`, or what the stream failed with. The stream is closed then.
  public func connect(over transport: some PolledDuplexStream<Bytes, Bytes>, to name: String) async throws -> TLSStream
  {
    try await handshake(over: transport) { TLSHandshake.connect(over: transport, to: name, self, $0) }
  }
}

extension TLSServerContext {
  /// Does a server's handshake on a byte stream.
  /// - Throws: `TLSError`, or what the stream failed with. The stream is closed then.
  public func accept(over transport: some PolledDuplexStream<Bytes, Bytes>) async throws -> TLSStream {
    try await handshake(over: transport) { _ = TLSHandshake.accept(over: transport, self, $0) }
  }
}

private func handshake(
  over transport: some PolledDuplexStream<Bytes, Bytes>,
  _ start: @escaping @Sendable (@escaping (Result<TLSStream, any Error>) -> Void) -> Void
) async throws -> TLSStream {
  try await withTaskCancellationHandler {
    try await withCheckedThrowingContinuation { continuation in
      transport.loop.perform { start { continuation.resume(with: $0) } }
    }
  } onCancel: {
    transport.abort(CancellationError())
  }
}
