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

    /// - Parameter options: Of the handshake and the connections; those of the listening count for nothing.
    public init(
      options: WebSocketServerOptions = WebSocketServerOptions(),
      logger: Logger = Logger(label: "sluice.websocket.server"),
      _ handler: @escaping @Sendable (WebSocket) async throws -> Void
    ) {
      upgrade = Upgrade(options)
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
      return upgrade.webSocket(for: upgradeRequest, on: context.channel).map { ws in
        _ = Task(executorPreference: ws.loop) { await ws.serve(logger: logger, handler) }
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

    /// - Parameter result: What the pipeline gives for a WebSocket.
    public init(
      options: WebSocketServerOptions = WebSocketServerOptions(), _ result: @escaping @Sendable (WebSocket) -> Result
    ) {
      upgrade = Upgrade(options)
      self.result = result
    }

    public func buildUpgradeResponse(
      channel: any Channel, upgradeRequest: HTTPRequestHead, initialResponseHeaders: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      upgrade.answer(upgradeRequest, on: channel, initialResponseHeaders)
    }

    public func upgrade(channel: any Channel, upgradeRequest: HTTPRequestHead) -> EventLoopFuture<Result> {
      let result = result
      return upgrade.webSocket(for: upgradeRequest, on: channel).map { result($0) }
    }
  }

  /// What both do.
  private struct Upgrade: Sendable {
    private let options: WebSocketServerOptions

    init(_ options: WebSocketServerOptions) {
      var options = options
      // The answer to hixie-76 stands behind the request's head, which NIO has taken apart already.
      options.versions.subtract([.hixie75, .hixie76])
      self.options = options
    }

    /// The fields of the 101 response.
    /// - Parameter initial: Those that NIO has: Connection and Upgrade.
    func answer(
      _ head: HTTPRequestHead, on channel: any Channel, _ initial: HTTPHeaders
    ) -> EventLoopFuture<HTTPHeaders> {
      do {
        var headers = initial
        for field in try agree(options, head).fields where field.name != .upgrade && field.name != .connection {
          headers.add(name: field.name.rawName, value: field.value)
        }
        return channel.eventLoop.makeSucceededFuture(headers)
      } catch {
        return refuse(error, on: channel)
      }
    }

    /// Answers with what is wrong, and closes.
    ///
    /// A failure at once would have NIO pass the request on, to be answered a second time: it comes when the channel is closed.
    private func refuse(_ rejection: RequestRejection, on channel: any Channel) -> EventLoopFuture<HTTPHeaders> {
      let refused = channel.eventLoop.makePromise(of: HTTPHeaders.self)
      channel.closeFuture.whenComplete { _ in refused.fail(rejection) }
      var headers = HTTPHeaders(rejection.fields.map { ($0.name.rawName, $0.value) })
      let body = ByteBuffer(string: rejection.reason + "\n")
      headers.replaceOrAdd(name: "Connection", value: "close")
      headers.add(name: "Content-Type", value: "text/plain; charset=utf-8")
      headers.add(name: "Content-Length", value: String(body.readableBytes))
      let head = HTTPResponseHead(
        version: .http1_1, status: HTTPResponseStatus(statusCode: rejection.status), headers: headers)
      channel.write(HTTPServerResponsePart.head(head), promise: nil)
      channel.write(HTTPServerResponsePart.body(.byteBuffer(body)), promise: nil)
      channel.writeAndFlush(HTTPServerResponsePart.end(nil)).whenComplete { _ in channel.close(promise: nil) }
      return refused.futureResult
    }

    /// Once NIO has sent the response and removed the handlers of HTTP.
    func webSocket(for head: HTTPRequestHead, on channel: any Channel) -> EventLoopFuture<WebSocket> {
      let options = options
      return ChannelStream.add(to: channel).flatMapThrowing { stream in
        // Asked once more, rather than kept for the connection from there to here: it is the same again, but for the application's own check.
        var settled = options
        settled.onRequest = { _ in [:] }
        let agreement = try agree(settled, head)
        return try WebSocket(
          over: stream, request: head.request, agreement, options: options, isSecure: options.tls != nil)
      }
    }

  }

  private func agree(
    _ options: WebSocketServerOptions, _ head: HTTPRequestHead
  ) throws(RequestRejection) -> ServerHandshake.Agreement {
    let request = head.request
    let hasBody: Bool
    do { hasBody = try !BodyFraming(request.headerFields).isEmpty } catch { throw RequestRejection(error) }
    return try options.agree(
      to: request, isHTTP11: head.version == .http1_1, hasBody: hasBody, isSecure: false)
  }

  extension HTTPRequestHead {
    /// As the types that the server ecosystem shares.
    var request: HTTPRequest {
      var fields = HTTPFields()
      for (name, value) in headers where name.lowercased() != "host" {
        if let name = HTTPField.Name(name) { fields.append(HTTPField(name: name, value: value)) }
      }
      return HTTPRequest(
        method: HTTPRequest.Method(method.rawValue) ?? .get, scheme: "http", authority: headers.first(name: "Host"),
        path: uri, headerFields: fields)
    }
  }
#endif
