import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import ServiceLifecycle
import Sluice
import SluiceNIO

/// A connection of Hummingbird's server that may become a WebSocket or an event stream of Sluice's, on the same event loop.
struct WebSocketChannel: ServerChildChannel, HTTPChannelHandler {
  typealias HTTPChannel = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

  enum Outcome: Sendable {
    case webSocket(WebSocket)
    case http(HTTPChannel)
  }

  struct Value: ServerChildChannelValue {
    let channel: any Channel
    let outcome: EventLoopFuture<Outcome>
  }

  let responder: HTTPChannelHandler.Responder
  let upgrader: TypedWebSocketUpgrader<Outcome>
  let feed: @Sendable (EventStreamConnection) async throws -> Void
  let handler: @Sendable (WebSocket) async throws -> Void

  init(
    responder: @escaping HTTPChannelHandler.Responder, options: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
    feed: @escaping @Sendable (EventStreamConnection) async throws -> Void,
    handler: @escaping @Sendable (WebSocket) async throws -> Void
  ) {
    self.responder = responder
    self.feed = feed
    self.handler = handler
    upgrader = TypedWebSocketUpgrader(options: options) { .webSocket($0) }
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture {
      let upgrades = NIOTypedHTTPServerUpgradeConfiguration<Outcome>(upgraders: [upgrader]) { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(EventSourceHandler(feed))
          try channel.pipeline.syncOperations.addHandler(HTTP1ToHTTPServerCodec(secure: false))
          return .http(
            try NIOAsyncChannel(
              wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true)))
        }
      }
      var pipeline = NIOUpgradableHTTPServerPipelineConfiguration(upgradeConfiguration: upgrades)
      pipeline.enablePipelining = false
      pipeline.enableErrorHandling = false
      let outcome = try channel.pipeline.syncOperations.configureUpgradableHTTPServerPipeline(configuration: pipeline)
      return Value(channel: channel, outcome: outcome)
    }
  }

  func handle(value: Value, logger: Logger) async {
    do {
      switch try await value.outcome.get() {
      case .http(let channel): await handleHTTP(asyncChannel: channel, logger: logger)
      case .webSocket(let ws):
        await withGracefulShutdownHandler {
          await ws.serve(logger: logger, handler)
        } onGracefulShutdown: {
          ws.closeGoingAway()
        }
      }
    } catch {
      // A refused upgrade, for one: it was answered.
      logger.debug("connection ended", metadata: ["error": "\(error)"])
    }
  }
}
