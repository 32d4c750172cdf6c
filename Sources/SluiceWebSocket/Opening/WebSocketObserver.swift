import SluiceStreams
import SluiceWebSocketProtocol

/// Is told what connections do, to count it: `WebSocketMetrics`, with the package trait `Metrics`, is one. Called on the connections' loops, it must
/// not block; whatever else it does, with this connection or others, is done as if it came next.
public protocol WebSocketObserver: AnyObject, Sendable {
  /// An opening handshake is done.
  func didOpen()
  /// A handshake failed. On a server: the status that a request was refused with; nil if its client left before. On a client: the status that the server
  /// answered with; nil if there was no connection, or no answer that can be read.
  func didFailHandshake(status: Int?)
  /// A message, or a part of one where it is read in parts, has come.
  func didReceive(byteCount: Int, endsMessage: Bool)
  func didSend(byteCount: Int, endsMessage: Bool)
  /// More waits to be sent than the high watermark: senders wait from now on.
  func didReachHighWatermark()
  /// A broadcast passed a connection by: it had no room.
  func didMiss()
  /// A connection has ended: the peer's code, 1005 without one, 1006 if it is gone without a Close.
  func didEnd(_ code: CloseCode)
}

/// A part of a message, or all of it, as an observer is told of it.
struct ReceivedPart {
  let byteCount: Int
  let endsMessage: Bool

  init(_ piece: borrowing DataPiece) {
    byteCount = piece.bytes.count
    endsMessage = piece.isFinal
  }

  init(_ part: borrowing ReadAhead.Part) {
    switch part {
    case .message(let message): (byteCount, endsMessage) = (message.bytes.count, true)
    case .piece(let piece): (byteCount, endsMessage) = (piece.bytes.count, piece.isFinal)
    case .end: (byteCount, endsMessage) = (0, false)
    }
  }
}

// An observer may do anything with this connection and with others: it is called where nothing is lent and nothing half done, behind what it
// is told of.
extension WebSocket {
  /// A part of a message came, of which the connection's timers and its observer want to know.
  @inline(__always)
  func noteReceived(_ byteCount: Int, endsMessage: Bool) {
    if machine.isWatched { tellReceived(byteCount, endsMessage) }
  }

  func noteReceived(_ part: ReceivedPart) { noteReceived(part.byteCount, endsMessage: part.endsMessage) }

  private func tellReceived(_ byteCount: Int, _ endsMessage: Bool) {
    note(.data)
    options.observer?.didReceive(byteCount: byteCount, endsMessage: endsMessage)
  }

  @inline(__always)
  func noteSent(_ byteCount: Int, endsMessage: Bool) {
    if machine.isWatched { tellSent(byteCount, endsMessage) }
  }

  private func tellSent(_ byteCount: Int, _ endsMessage: Bool) {
    note(.data)
    guard let observer = options.observer else { return }
    // Once for each time that it fills.
    let isFull = queuedByteCount >= options.writeHighWatermark
    let wasFull = controls.isFull
    controls.isFull = isFull
    observer.didSend(byteCount: byteCount, endsMessage: endsMessage)
    if isFull && !wasFull { observer.didReachHighWatermark() }
  }
}
