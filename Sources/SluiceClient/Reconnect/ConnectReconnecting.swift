import SluiceIO
import SluiceStreams

extension Connect {
  /// A byte stream to an origin that is connected again whenever it was lost: see `ReconnectingStream`.
  ///
  /// An end that the peer makes before this side has closed is a loss too. The first connection is made by the first read or write.
  ///
  /// ```swift
  /// let log = Connect.reconnecting(
  ///   to: Origin(host: "logs.example", port: 6514, isSecure: true), resumingAt: .behind(UInt8(ascii: "\n")))
  /// try await StandardStream.input().pipe(log)
  /// ```
  /// - Parameter resumingAt: Where what was not sent begins. Default: at the very byte.
  public static func reconnecting(
    to origin: Origin, options: ConnectOptions = ConnectOptions(), reconnect: ReconnectOptions = ReconnectOptions(),
    resumingAt resumePoint: ResumePoint<Bytes> = .byte, on loop: UVLoop = .shared
  ) -> ReconnectingStream<Bytes, Bytes> {
    reconnecting(to: origin, options: options, reconnect: reconnect, resumingAt: resumePoint, on: loop) { _ in }
  }

  /// - Parameter begin: Is given each connection before it is used.
  package static func reconnecting(
    to origin: Origin, options: ConnectOptions, reconnect: ReconnectOptions, resumingAt resumePoint: ResumePoint<Bytes>,
    on loop: UVLoop = .shared, _ begin: @escaping @Sendable (ByteStream) async -> Void
  ) -> ReconnectingStream<Bytes, Bytes> {
    let name = options.unixSocket.map { "unix:\($0)" } ?? "\(origin.isSecure ? "tls" : "tcp")://\(origin.authority)"
    let reconnector = Reconnector<ByteStream>(
      reconnect, url: name, on: loop,
      connect: { _ in
        let stream = try await open(origin, options: options, on: loop)
        await begin(stream)
        return stream
      },
      end: { await end(of: $0) })
    return ReconnectingStream(over: reconnector.connections, resumingAt: resumePoint, on: loop)
  }

  private static func end(of stream: ByteStream) async -> ConnectionEnd {
    let result = try? await stream.loop.run { Result { try lastPoll(of: stream) } }
    if case .failure(let error) = result { return .lost(error) }
    return .lost(ConnectionEnded())
  }

  /// Closes what is not closed yet, whatever its peer takes: the next connection does not wait for that. On the stream's loop.
  /// - Throws: what the stream has failed with, if it has.
  private static func lastPoll(of stream: some PolledDuplexStream<Bytes, Bytes>) throws {
    defer {
      Task(executorPreference: stream.loop) {
        await stream.closeLingering(stallTimeout: Lingering.sendingTime, orAbort: StreamError.aborted)
      }
    }
    _ = try stream.poll()
  }
}
