// Echo servers on SwiftNIO, one event loop each: `nio-echo-server pipe|await|nio`, Sluice's WebSockets on NIO's channels or NIOWebSocket's own.
// Prints its port and serves until it is killed.
import NIOCore
import NIOHTTP1
import NIOPosix
import Sluice
import SluiceNIO

let upgrader: any HTTPServerProtocolUpgrader & Sendable
switch CommandLine.arguments.dropFirst().first {
case "pipe": upgrader = WebSocketUpgrader { ws in try await ws.pipe(ws) }
case "await": upgrader = WebSocketUpgrader { ws in for try await message in ws { try await ws.send(message) } }
case "nio": upgrader = NIOEcho.upgrader
default:
  fatalError("usage: nio-echo-server pipe|await|nio")
}

let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup(numberOfThreads: 1))
  .serverChannelOption(.backlog, value: 1024)
  .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
  .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
  .childChannelInitializer { channel in
    channel.eventLoop.makeCompletedFuture {
      try channel.pipeline.syncOperations.configureHTTPServerPipeline(
        withServerUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
    }
  }
  .bind(host: "127.0.0.1", port: 0).get()
try await StandardStream.output().write(Bytes("\(server.localAddress?.port ?? 0)\n"))
try await server.closeFuture.get()
