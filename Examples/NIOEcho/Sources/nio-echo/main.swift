// A plain SwiftNIO server whose WebSockets are Sluice's: swift run nio-echo [PORT]
import NIOCore
import NIOHTTP1
import NIOPosix
import Sluice
import SluiceNIO

/// Answers what is no WebSocket.
final class Page: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .end = unwrapInboundIn(data) else { return }
    let body = ByteBuffer(string: "an echo server; come with a WebSocket\n")
    let head = HTTPResponseHead(
      version: .http1_1, status: .ok, headers: ["Content-Length": "\(body.readableBytes)"])
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }
}

var options = WebSocketServerOptions()
options.protocols = ["chat.v2", "chat.v1"]
options.extensions = [PermessageDeflate()]
let upgrader = WebSocketUpgrader(options: options) { ws in try await ws.pipe(ws) }

let port = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 8000
let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
  .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
  .childChannelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      let page = Page()
      try channel.pipeline.syncOperations.configureHTTPServerPipeline(
        withServerUpgrade: (
          upgraders: [upgrader],
          completionHandler: { context in context.pipeline.syncOperations.removeHandler(page, promise: nil) }
        ))
      try channel.pipeline.syncOperations.addHandler(page)
    }
  }
  .bind(host: "127.0.0.1", port: port).get()
try await StandardStream.output().write(Bytes("listening on \(server.localAddress?.port ?? 0)\n"))
try await server.closeFuture.get()
