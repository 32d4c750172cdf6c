#if NIO
  import HTTPTypes
  import Logging
  import NIOCore
  import NIOHTTP1
  import SluiceHTTP
  import SluiceStreams
  import SluiceWebSocket
  import SluiceWebSocketProtocol

  /// Makes WebSockets of the requests of a SwiftNIO HTTP/1.1 pipeline.
  ///
  /// ```swift
  /// let upgrader = WebSocketUpgrader { ws in try await ws.pipe(ws) }
  /// channel.pipeline.configureHTTPServerPipeline(
  ///   withServerUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
  /// ```
  /// The handler's task runs on the channel's event loop, and closes behind the handler as `WebSocket.serve` does. RFC 6455 and its drafts 7 and 8 are
  /// spoken; what a request is refused for is answered here, and the connection closed.
  public final class WebSocketUpgrader: HTTPServerProtocolUpgrader, Sendable {
    public let supportedProtocol = "websocket"
    public let requiredUpgradeHeaders: [String] = []
    private let upgrade: Upgrade
    private let logger: Logger
    private let handler: @Sendable (WebSocket) async throws -> Void

    /// - Parameters:
    ///   - options: Of the handshake and the connections.
    ///   - isSecure: Whether the channel is in TLS: a WebSocket's `url` says so.
    public init(
      options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), isSecure: Bool = false,
      logger: Logger = Logger(label: "sluice.websocket.server"),
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) {
      upgrade = Upgrade(options, isSecure: isSecure)
      self.logger = logger
      self.handler = handler
    }

    public func buildUpgradeResponse(
      channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      upgrade.answer(upgradeRequest, on: channel, initialResponseHeaders)
    }

    public func upgrade(context: ChannelHandlerContext, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Void> {
      let (handler, logger) = (handler, logger)
      return upgrade.webSocket(on: context.channel).map { ws in
        _ = ws.startServing(logger: logger, handler)
      }
    }
  }

  /// The same for the typed pipelines of `NIOAsyncChannel`, that give what a connection has become.
  ///
  /// ```swift
  /// let upgrader = TypedWebSocketUpgrader { ws in Connection.webSocket(ws) }
  /// ```
  public final class TypedWebSocketUpgrader<Result: Sendable>: NIOTypedHTTPServerProtocolUpgrader, Sendable {
    public let supportedProtocol = "websocket"
    public let requiredUpgradeHeaders: [String] = []
    private let upgrade: Upgrade
    private let result: @Sendable (WebSocket) -> Result

    /// - Parameters:
    ///   - options, isSecure: As for `WebSocketUpgrader`.
    ///   - result: What the pipeline gives for a WebSocket.
    public init(
      options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), isSecure: Bool = false,
      _ result: @escaping @Sendable (WebSocket) -> Result
    ) {
      upgrade = Upgrade(options, isSecure: isSecure)
      self.result = result
    }

    public func buildUpgradeResponse(
      channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      upgrade.answer(upgradeRequest, on: channel, initialResponseHeaders)
    }

    public func upgrade(channel: any Channel, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Result> {
      let result = result
      return upgrade.webSocket(on: channel).map { result($0) }
    }
  }

  /// What both do.
  private struct Upgrade: Sendable {
    private let options: WebSocketHandshakeOptions
    private let isSecure: Bool

    init(_ options: WebSocketHandshakeOptions, isSecure: Bool) {
      var options = options
      // The answer to hixie-76 stands behind the request's head, which NIO has taken apart already.
      options.versions.subtract([.hixie75, .hixie76])
      self.options = options
      self.isSecure = isSecure
    }

    /// The fields of the 101 response.
    /// - Parameter initial: Those that NIO has: Connection and Upgrade.
    func answer(
      _ head: HTTPRequestHead, on channel: any Channel, _ initial: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      let asked: AskedRequest
      let agreement: ServerHandshake.Agreement
      do {
        asked = try self.asked(head)
        agreement = try options.agree(to: asked)
      } catch {
        return refuse(error, on: channel)
      }
      guard let onRequest = options.onRequest else {
        return accept(asked.request, agreement, value: nil, on: channel, initial)
      }
      return ask(onRequest, asked, agreement, on: channel, initial)
    }

    private func asked(_ head: HTTPRequestHead) throws(RequestRejection) -> AskedRequest {
      let request = head.request
      do {
        return AskedRequest(
          request, isHTTP11: head.version == .http1_1, hasBody: try !BodyFraming(request.headerFields).isEmpty,
          isSecure: isSecure)
      } catch { throw RequestRejection(error) }
    }

    /// Has the application look at the request, in a task on the channel's loop, for as long as the time for the handshake; a client that leaves ends it.
    private func ask(
      _ onRequest: @escaping @Sendable (HTTPRequest) async throws -> WebSocketAcceptance, _ asked: AskedRequest,
      _ agreement: ServerHandshake.Agreement, on channel: any Channel, _ initial: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      let settled = channel.eventLoop.makePromise(of: Settled.self)
      let loop = NIOLoop.of(channel.eventLoop)
      let task = Task(executorPreference: loop) {
        do {
          let (agreement, value) = try await options.settle(asked, agreement, asking: onRequest)
          settled.succeed(Settled(agreement: agreement, value: value))
        } catch { settled.fail(error) }
      }
      let limit = loop.schedule(after: options.handshakeTimeout) { task.cancel() }
      channel.closeFuture.whenComplete { _ in task.cancel() }
      settled.futureResult.whenComplete { _ in loop.cancelTimer(limit) }
      return settled.futureResult.flatMap { settled in
        self.accept(asked.request, settled.agreement, value: settled.value, on: channel, initial)
      }.flatMapError { error in
        self.refuse(error as? RequestRejection ?? RequestRejection(thrown: error), on: channel)
      }
    }

    private struct Settled: Sendable {
      let agreement: ServerHandshake.Agreement
      let value: (any Sendable)?
    }

    private func accept(
      _ request: HTTPRequest, _ agreement: ServerHandshake.Agreement, value: (any Sendable)?, on channel: any Channel,
      _ initial: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      var headers = initial
      for field in agreement.fields where field.name != .upgrade && field.name != .connection {
        headers.add(name: field.name.rawName, value: field.value)
      }
      let final = headers
      return channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(Agreed(request, agreement, value))
        return final
      }
    }

    /// Answers with what is wrong, and closes.
    ///
    /// A failure at once would have NIO pass the request on, to be answered a second time: it comes when the channel is closed.
    private func refuse(_ rejection: RequestRejection, on channel: any Channel) -> EventLoopFuture<HTTPHeaders> {
      let refused = channel.eventLoop.makePromise(of: HTTPHeaders.self)
      channel.closeFuture.whenComplete { _ in refused.fail(rejection) }
      for part in rejection.responseParts { channel.write(part, promise: nil) }
      channel.writeAndFlush(HTTPServerResponsePart.end(nil)).whenComplete { _ in channel.close(promise: nil) }
      return refused.futureResult
    }

    /// Once NIO has sent the response and removed the handlers of HTTP.
    func webSocket(on channel: any Channel) -> EventLoopFuture<WebSocket> {
      let (options, isSecure) = (options, isSecure)
      return ChannelStream.add(to: channel).flatMapThrowing { stream in
        let pipeline = channel.pipeline.syncOperations
        let agreed = try pipeline.handler(type: Agreed.self)
        pipeline.removeHandler(agreed, promise: nil)
        return try WebSocket(
          over: stream, request: agreed.request, agreed.agreement, value: agreed.value, options: options,
          isSecure: isSecure)
      }
    }
  }

  /// What was agreed upon: it rides in the channel's pipeline from the answer to the upgrade, between which NIO asks an upgrader twice.
  private final class Agreed: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = Never

    let request: HTTPRequest
    let agreement: ServerHandshake.Agreement
    let value: (any Sendable)?

    init(_ request: HTTPRequest, _ agreement: ServerHandshake.Agreement, _ value: (any Sendable)?) {
      self.request = request
      self.agreement = agreement
      self.value = value
    }
  }
#endif
