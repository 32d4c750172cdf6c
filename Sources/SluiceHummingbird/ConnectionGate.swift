#if Hummingbird
  import NIOCore
  import NIOHTTP1
  import NIOTLS
  import SluiceHTTP
  import SluiceNIO
  import SluiceStreams

  /// Stands behind the HTTP/1.1 codec of a connection of Hummingbird's, and hands it over where the application's response says so: to a WebSocket behind a
  /// 101, to an event stream behind its head. All other responses pass.
  ///
  /// A request for a WebSocket is an ordinary request until then: the router and the middleware see it, once, whatever came before it on the connection.
  final class ConnectionGate: ChannelDuplexHandler {  // touched on its event loop only
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// What a connection is handed over for.
    enum Purpose {
      case webSocket
      case eventStream

      /// Whether a response is the one that the handover stands behind.
      func isBegun(by head: HTTPResponseHead) -> Bool {
        switch self {
        case .webSocket: head.status == .switchingProtocols
        case .eventStream:
          head.status == .ok
            && head.headers.first(name: "Content-Type")?.utf8.starts(with: "text/event-stream".utf8) == true
        }
      }
    }

    /// What HTTP says of the request that the application looks at.
    struct Facts: Sendable {
      let isHTTP11: Bool
      let isSecure: Bool
    }

    private enum State {
      case passing
      case agreed(Purpose, EventLoopPromise<ChannelStream>)
      case handedOver
    }

    private var state = State.passing
    private var version = HTTPVersion.http1_1
    private var isSecure = false
    /// Whether the server stops.
    private var isQuiescing = false
    /// Requests whose response has not ended yet.
    private var unanswered = 0
    /// Whether a request's end has still to come.
    private var isRequestOpen = false
    /// Whether nothing is read behind this request, because it asks for another protocol (NIO's decoder stops there).
    private var isLastRequest = false
    private var connection: (any ServedConnection)?

    // MARK: for the application

    /// Calls `body` with a connection's gate, on its event loop.
    static func at<R: Sendable>(
      _ channel: any Channel, _ body: @escaping @Sendable (ConnectionGate) throws -> R
    ) async throws -> R {
      try await channel.eventLoop.submit {
        try body(try channel.pipeline.syncOperations.handler(type: ConnectionGate.self))
      }.get()
    }

    var facts: Facts { Facts(isHTTP11: version == .http1_1, isSecure: isSecure) }

    /// The response of the application will begin with what is agreed upon.
    /// - Returns: what the connection is then; fails if it ends before.
    func agree(to purpose: Purpose, on channel: any Channel) -> EventLoopFuture<ChannelStream> {
      fail(ChannelError.ioOnClosedChannel)
      let promise = channel.eventLoop.makePromise(of: ChannelStream.self)
      if case .handedOver = state {
        promise.fail(ChannelError.ioOnClosedChannel)
      } else {
        state = .agreed(purpose, promise)
      }
      return promise.futureResult
    }

    /// The connection that was made of it: it is told when the server stops.
    func serves(_ connection: any ServedConnection) {
      self.connection = connection
      if isQuiescing { connection.endForShutdown() }
    }

    /// What was agreed upon will not happen.
    private func fail(_ error: any Error) {
      guard case .agreed(_, let promise) = state else { return }
      state = .passing
      promise.fail(error)
    }

    // MARK: requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        isRequestOpen = true
        version = head.version
        unanswered += 1
        isLastRequest =
          head.headers.contains(name: "Upgrade")
          && head.headers[canonicalForm: "Connection"].contains { $0.utf8.equalsIgnoringCase("upgrade") }
      case .end: isRequestOpen = false
      case .body: break
      }
      context.fireChannelRead(data)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      switch event {
      case is ChannelShouldQuiesceEvent:
        isQuiescing = true
        connection?.endForShutdown()
      case TLSUserEvent.handshakeCompleted: isSecure = true
      default: break
      }
      context.fireUserInboundEventTriggered(event)
    }

    func channelInactive(context: ChannelHandlerContext) {
      connection = nil
      fail(ChannelError.ioOnClosedChannel)
      context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
      connection = nil
      fail(ChannelError.ioOnClosedChannel)
    }

    // MARK: responses

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
      let isLast = isLastRequest && unanswered == 1
      switch (state, unwrapOutboundIn(data)) {
      // What Hummingbird may still say is no part of what the connection is now.
      case (.handedOver, _): promise?.fail(ChannelError.ioOnClosedChannel)
      case (.agreed(let purpose, let handedOver), .head(let head)) where purpose.isBegun(by: head):
        state = .handedOver
        context.write(data, promise: promise)
        do { handedOver.succeed(try handOver(for: purpose, context)) } catch {
          handedOver.fail(error)
          context.close(promise: nil)
        }
      case (_, .head(var head)) where isLast && head.status.code >= 200:
        head.headers.replaceOrAdd(name: "Connection", value: "close")
        context.write(wrapOutboundOut(.head(head)), promise: promise)
      case (_, .end):
        // A request that could not be read is answered too.
        unanswered = max(unanswered - 1, 0)
        guard isLast else { return context.write(data, promise: promise) }
        let channel = context.channel
        context.writeAndFlush(data).whenComplete { result in
          promise?.completeWith(result)
          channel.close(promise: nil)
        }
      case (_, .head), (_, .body): context.write(data, promise: promise)
      }
    }

    private func handOver(for purpose: Purpose, _ context: ChannelHandlerContext) throws -> ChannelStream {
      switch purpose {
      case .webSocket: try ChannelStream.takingOver(from: context)
      case .eventStream: try ChannelStream.writingBody(from: context, isRequestOpen: isRequestOpen)
      }
    }
  }
#endif
