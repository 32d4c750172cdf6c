import Logging
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Wakes a WebSocket that it does not keep alive.
final class WeakWaker: Waker, @unchecked Sendable {  // never changed
  private weak let socket: WebSocket?

  init(_ socket: WebSocket) { self.socket = socket }

  func wakeReader() { socket?.wakeReader() }
  func wakeWriter() { socket?.wakeWriter() }
}

/// What is left of a client's connection whose WebSocket was dropped without `close`: says 1001 to the peer, which may still send its Close, and is
/// cut when it does not end within the close timeout.
final class AbandonedConnection: SingleWaker, @unchecked Sendable {  // touched on its loop only
  private let transport: WebSocket.Transport
  private var timer: LoopTimer?

  private init(_ transport: WebSocket.Transport) { self.transport = transport }

  /// From any thread.
  static func close(_ transport: WebSocket.Transport, _ opening: WebSocketOpening, _ context: ConnectionContext) {
    let host = (try? ConnectionURL(opening.url))?.host ?? ""
    Logger(label: "sluice.websocket.client").debug(
      "WebSocket released without close(): closing with 1001", metadata: ["host": "\(host)"])
    context.loop.execute { AbandonedConnection(transport).close(context) }
  }

  private func close(_ context: ConnectionContext) {
    Reached.mark("ws.abandoned")
    transport.detachReader()
    transport.detachWriter()
    timer = context.loop.schedule(after: context.options.closeTimeout) { self.transport.abort(StreamError.aborted) }
    do {
      try transport.attachReader(self)
      try transport.push(Self.closeFrame(context.maskingKeys?.next()))
    } catch {
      return end()
    }
    transport.closeWhenFlushed { _ in }
    wake()
  }

  private static func closeFrame(_ key: MaskingKey?) -> Bytes {
    let payload = CloseCode.goingAway.payload(reason: "")
    var frame = BytesBuilder(capacity: FrameHeader.maxEncodedLength + payload.count)
    frame.append(FrameHeader(.close, maskingKey: key, payloadLength: payload.count), payload.span)
    return frame.take()
  }

  /// Reads to the end, so that no reset overtakes the Close.
  func wake() {
    if (try? transport.dropReady()) != false { end() }
  }

  private func end() {
    if let timer { transport.loop.cancelTimer(timer) }
    timer = nil
    transport.detachReader()
    transport.cancel(nil)
  }
}
