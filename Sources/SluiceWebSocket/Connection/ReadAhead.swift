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
    indirect case close(HeldClose)
  }

  /// The peer's Close, which takes its effect when the reader comes to it, so that what came before it can still be answered,
  /// or when the time for that is over.
  struct HeldClose {
    let code: CloseCode?
    let reason: String
    let limit: LoopTimer
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

  /// Nothing follows the peer's Close.
  var endsWithClose: Bool {
    if case .close = parts.last { true } else { false }
  }

  /// Takes the peer's Close from behind what is not read yet.
  mutating func popClose() -> HeldClose? {
    guard case .close(let close) = parts.last else { return nil }
    parts.removeLast()
    byteCount -= 1
    return close
  }

  mutating func removeAll() {
    parts = Deque()
    byteCount = 0
  }

  private static func cost(of part: Part) -> Int {
    switch part {
    case .message(let message): message.bytes.count + 1
    case .piece(let piece): piece.bytes.count + 1
    case .close: 1
    }
  }
}
