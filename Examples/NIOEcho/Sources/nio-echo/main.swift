// A plain SwiftNIO server whose WebSockets and event streams are Sluice's: swift run nio-echo [PORT [CERTIFICATE KEY]], in TLS with a certificate.
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Sluice
import SluiceNIO

/// Answers what is neither a WebSocket nor an event stream.
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

let arguments = Array(CommandLine.arguments.dropFirst())
let tls: NIOSSLContext? =
  if arguments.count == 3 {
    try NIOSSLContext(
      configuration: .makeServerConfiguration(
        certificateChain: NIOSSLCertificate.fromPEMFile(arguments[1]).map { .certificate($0) },
        privateKey: .privateKey(NIOSSLPrivateKey(file: arguments[2], format: .pem))))
  } else { nil }

var options = WebSocketHandshakeOptions()
options.protocols = ["chat.v2", "chat.v1"]
options.extensions = [PermessageDeflate()]
let upgrader = WebSocketUpgrader(options: options, isSecure: tls != nil) { ws in try await ws.pipe(ws) }

/// Numbers, from where a client has left off.
let countUp: @Sendable (EventStreamConnection) async throws -> Void = { events in
  var number = events.lastEventID.flatMap { UInt32($0) } ?? 0
  while true {
    number &+= 1
    try await events.send("\(number)", id: "\(number)")
    try await Task.sleep(for: .milliseconds(100))
  }
}

let port = arguments.first.flatMap { Int($0) } ?? 8000
let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
  .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
  .childChannelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      let pipeline = channel.pipeline.syncOperations
      if let tls { try pipeline.addHandler(NIOSSLServerHandler(context: tls)) }
      let page = Page()
      try pipeline.configureHTTPServerPipeline(
        withServerUpgrade: (
          upgraders: [upgrader],
          completionHandler: { context in context.pipeline.syncOperations.removeHandler(page, promise: nil) }
        ))
      try pipeline.addHandlers(EventSourceHandler(countUp), page)
    }
  }
  .bind(host: "127.0.0.1", port: port).get()
try await StandardStream.output().write(Bytes("listening on \(server.localAddress?.port ?? 0)\n"))
try await server.closeFuture.get()
