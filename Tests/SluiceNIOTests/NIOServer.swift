#if NIO
  import NIOCore
  import NIOHTTP1
  import NIOPosix
  import Sluice
  import SluiceNIO
  import Synchronization
  import Testing

  /// A SwiftNIO server with a page, and before it what a test adds.
  struct NIOServer: Sendable {
    let port: Int

    /// Runs a test against one on a port of its own.
    static func run(
      upgrader: WebSocketUpgrader? = nil, feed: (@Sendable () -> EventSourceHandler)? = nil,
      _ body: (NIOServer) async throws -> Void
    ) async throws {
      let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            let upgrade: NIOHTTPServerUpgradeConfiguration? = upgrader.map { upgrader in
              (
                upgraders: [upgrader],
                completionHandler: { $0.pipeline.syncOperations.removeHandler(name: "page", promise: nil) }
              )
            }
            try pipeline.configureHTTPServerPipeline(withServerUpgrade: upgrade)
            if let feed { try pipeline.addHandler(feed()) }
            try pipeline.addHandler(Page(), name: "page")
          }
        }
        .bind(host: "127.0.0.1", port: 0).get()
      let result: Result<Void, any Error>
      do {
        result = .success(try await body(NIOServer(port: try #require(listener.localAddress?.port))))
      } catch { result = .failure(error) }
      try await listener.close()
      try result.get()
    }

    /// What is answered to one request, until the connection ends or the answer holds `end`.
    func answer(to request: String, until end: String = "\r\n\r\n\r\n\r\n") async throws -> String {
      let socket = try await TCP.connect("127.0.0.1", port: port)
      defer { socket.abort(StreamError.aborted) }
      try await socket.write(Bytes(request))
      var answer = ""
      while !answer.contains(end), let chunk = try await socket.read() { answer += chunk.string }
      return answer
    }
  }

  /// Answers all that comes to it.
  private final class Page: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .end = unwrapInboundIn(data) else { return }
      let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["Content-Length": "4"])
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: "page")))), promise: nil)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
  }
#endif
