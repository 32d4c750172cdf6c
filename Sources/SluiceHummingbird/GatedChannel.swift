#if Hummingbird
  import HummingbirdCore
  import Logging
  import NIOCore
  import NIOHTTP1
  import NIOHTTPTypes
  import NIOHTTPTypesHTTP1

  extension HTTPServerBuilder {
    /// Hummingbird's HTTP/1.1 server, whose routes and middleware may answer with WebSockets and event streams.
    ///
    /// ```swift
    /// let app = Application(router: router, server: .http1WebSockets())
    /// ```
    /// With TLS: `.tls(.http1WebSockets(), tlsConfiguration: configuration)`.
    /// - Parameter configuration: As for `.http1`.
    public static func http1WebSockets(
      configuration: HTTP1Channel.Configuration = HTTP1Channel.Configuration()
    ) -> HTTPServerBuilder {
      HTTPServerBuilder { responder in GatedChannel(responder, configuration) }
    }
  }

  /// Hummingbird's HTTP/1.1 connection with a gate behind its codec.
  struct GatedChannel: ServerChildChannel, HTTPChannelHandler {
    typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

    /// The connection of the request that the running task answers.
    @TaskLocal static var current: (any Channel)?

    let responder: HTTPChannelHandler.Responder
    private let configuration: HTTP1Channel.Configuration

    init(_ responder: @escaping HTTPChannelHandler.Responder, _ configuration: HTTP1Channel.Configuration) {
      self.configuration = configuration
      self.responder = { request, writer, channel in
        var writer = Optional(writer)
        try await Self.$current.withValue(channel) {
          if let writer = writer.take() { try await responder(request, writer, channel) }
        }
      }
    }

    /// As `HTTP1Channel` does it; but what the decoder has not read when it leaves is passed on.
    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
      channel.eventLoop.makeCompletedFuture {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = configuration.httpDecoder.maxHeaderFieldSize
        limits.maxHeaderListSize = configuration.httpDecoder.maxHeaderListSize
        limits.maxHeaderFieldCount = configuration.httpDecoder.maxHeaderFieldCount
        let decoder = HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits)
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(HTTPResponseEncoder())
        try pipeline.addHandler(ByteToMessageHandler(decoder))
        try pipeline.addHandler(ConnectionGate())
        try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
        try pipeline.addHandlers(configuration.additionalChannelHandlers())
        try pipeline.addHandler(
          HTTPConnectionStateHandler(idleTimeout: configuration.idleTimeout.map { Duration($0) }, logger: logger))
        return try NIOAsyncChannel(
          wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
      }
    }

    func handle(value: Value, logger: Logger) async { await handleHTTP(asyncChannel: value, logger: logger) }
  }
#endif
