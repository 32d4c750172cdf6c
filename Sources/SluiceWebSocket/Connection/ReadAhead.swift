import DequeModule
import SluiceStreams
import SluiceWebSocketProtocol

/// What was decoded while nobody read, so that pings were answered and a Pong or Close was found behind it.
///
/// It holds messages in parts, as they came: whether messages or fragments of them are read is for the reader to say.
struct ReadAhead {
  enum Part {
    /// A whole message of an extension, which gives no parts.
    case message(Message)
    case piece(DataPiece)
    indirect case end(HeldEnd)
  }

  /// What ends the reading. It takes its effect when the reader comes to it, so that what came before it can still be answered,
  /// or when the time for that is over.
  struct HeldEnd {
    let end: End
    let limit: LoopTimer
  }

  enum End {
    /// The peer's Close.
    case close(CloseCode?, String)
    case violation(WebSocketProtocolError)
  }

  private var parts = Deque<Part>()
  /// Bytes of payload, and one for each part: empty ones count too.
  private(set) var byteCount = 0

  var isEmpty: Bool { parts.isEmpty }

  mutating func append(_ part: Part) {
    byteCount += Self.cost(of: part)
    parts.append(part)
  }

  mutating func popFirst() -> Part? {
    guard let part = parts.popFirst() else { return nil }
    byteCount -= Self.cost(of: part)
    // The memory of an idle connection.
    if parts.isEmpty { parts = Deque() }
    return part
  }

  /// Nothing follows it.
  var hasEnd: Bool {
    if case .end = parts.last { true } else { false }
  }

  /// Takes the end from behind what is not read yet.
  mutating func popEnd() -> HeldEnd? {
    guard case .end(let held) = parts.last else { return nil }
    parts.removeLast()
    byteCount -= 1
    return held
  }

  mutating func removeAll() {
    parts = Deque()
    byteCount = 0
  }

  private static func cost(of part: Part) -> Int {
    switch part {
    case .message(let message): message.bytes.count + 1
    case .piece(let piece): piece.bytes.count + 1
    case .end: 1
    }
  }
}
