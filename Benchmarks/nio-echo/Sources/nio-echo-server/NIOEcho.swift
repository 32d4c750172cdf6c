import NIOCore
import NIOHTTP1
import NIOWebSocket

/// NIOWebSocket's echo, with one flush for all that was read at once.
final class NIOEcho: ChannelInboundHandler {
  typealias InboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  static var upgrader: NIOWebSocketServerUpgrader {
    NIOWebSocketServerUpgrader(
      maxFrameSize: 64 << 20, shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture([:]) },
      upgradePipelineHandler: { channel, _ in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(NIOEcho()) }
      })
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let frame = unwrapInboundIn(data)
    let opcode: WebSocketOpcode
    switch frame.opcode {
    case .text, .binary, .continuation: opcode = frame.opcode
    case .ping: opcode = .pong
    case .connectionClose: return context.close(promise: nil)
    default: return
    }
    context.write(
      wrapOutboundOut(WebSocketFrame(fin: frame.fin, opcode: opcode, data: frame.unmaskedData)), promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }
}
