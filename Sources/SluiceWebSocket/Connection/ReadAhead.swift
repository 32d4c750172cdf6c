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

  mutating func removeAll() {
    parts = Deque()
    byteCount = 0
  }

  private static func cost(of part: Part) -> Int {
    switch part {
    case .message(let message): message.bytes.count + 1
    case .piece(let piece): piece.bytes.count + 1
    }
  }
}
