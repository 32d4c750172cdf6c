import DequeModule
import SluiceStreams
import SluiceWebSocketProtocol

/// What was decoded while nobody read, so that pings were answered and a Pong or Close was found behind it.
///
/// It holds messages in parts, as they came: whether messages or parts of them are read is for the reader to say.
struct ReadAhead: ~Copyable {
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
    /// That of its half of the connection, without a Close, and what the transport has to say of that.
    case transportEnd((any Error)?)
  }

  /// nil while there is nothing: then an idle connection holds a pointer only.
  private var queue: Queue?

  private final class Queue {
    var parts = Deque<Part>()
    var byteCount = 0
  }

  /// Bytes that are held: the payload, and what each part costs beside it.
  var byteCount: Int { queue?.byteCount ?? 0 }

  var isEmpty: Bool { queue == nil }

  mutating func append(_ part: Part) {
    let queue = queue ?? Queue()
    self.queue = queue
    queue.byteCount += Self.cost(of: part)
    queue.parts.append(part)
  }

  mutating func popFirst() -> Part? {
    guard let part = queue?.parts.popFirst() else { return nil }
    didTake(part)
    return part
  }

  /// Nothing follows it.
  var hasEnd: Bool {
    if case .end = queue?.parts.last { true } else { false }
  }

  /// Takes the end from behind what is not read yet.
  mutating func popEnd() -> HeldEnd? {
    guard let last = queue?.parts.last, case .end(let held) = last else { return nil }
    queue?.parts.removeLast()
    didTake(last)
    return held
  }

  mutating func removeAll() { queue = nil }

  private mutating func didTake(_ part: Part) {
    queue?.byteCount -= Self.cost(of: part)
    assert(byteCount >= 0 && (byteCount == 0 || queue?.parts.isEmpty == false), "bytes are counted that nobody holds")
    if queue?.parts.isEmpty == true { queue = nil }
  }

  private static func cost(of part: Part) -> Int {
    switch part {
    case .message(let message): heldCost(ofByteCount: message.bytes.count)
    case .piece(let piece): heldCost(ofByteCount: piece.bytes.count)
    case .end: 0
    }
  }
}
