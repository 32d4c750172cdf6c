import SluiceStreams
import SluiceZlib

/// Inflates the pieces of compressed messages as they come, a bounded part at a time (RFC 7692 §7.2.2).
struct MessageInflater: ~Copyable {
  private let window: PermessageDeflate.Window
  /// Held while a message is under way, and for good where it is taken over.
  private var inflater: Inflater?
  private var state = State.betweenMessages

  private enum State {
    case betweenMessages
    case betweenPieces(Progress)
    /// A piece was fed and is not all inflated yet.
    case inPiece(Progress, Piece)
    case failed(WebSocketProtocolError)
  }

  /// What is known of the message under way.
  private struct Progress {
    var isFirst = true
    var compressedBytes = 0
    var text = UTF8Validator()
  }

  /// What is left of the piece that was fed.
  private struct Piece {
    var kind: MessageKind
    var bytes: Bytes
    var startsFrame: Bool
    var end: End
    /// Whether zlib holds output of bytes that it has taken.
    var hasOutput = false

    enum End {
      /// More pieces follow.
      case open
      /// The message ends, and its last four bytes are still to be put behind it.
      case withTail
      case final
    }
  }

  /// Bytes that are inflated at a time.
  private static let stepSize = 32 << 10
  /// What the sender took off the message's end.
  private static let tail: Bytes = [0x00, 0x00, 0xFF, 0xFF]

  init(window: PermessageDeflate.Window) {
    self.window = window
  }

  /// Takes a piece of a compressed message; `next` has given nil for the one before.
  mutating func feed(_ piece: consuming DataPiece) {
    var message: Progress
    switch state {
    case .failed: return
    case .betweenPieces(let begun), .inPiece(let begun, _): message = begun
    case .betweenMessages: message = Progress()
    }
    message.compressedBytes += piece.bytes.count
    // A message without a byte is empty; only RFC 7692 §7.2.3.6 would have it sent as one zero byte.
    let end: Piece.End = !piece.isFinal ? .open : message.compressedBytes == 0 ? .final : .withTail
    state = .inPiece(
      message, Piece(kind: piece.kind, bytes: piece.bytes, startsFrame: piece.startsFrame, end: end))
  }

  /// The next part of what was fed, inflated and, if it is text, checked; nil when there is no more.
  mutating func next(_ contexts: DeflateContexts) throws(WebSocketProtocolError) -> DataPiece? {
    switch state {
    case .betweenMessages, .betweenPieces: return nil
    case .failed(let error): throw error
    case .inPiece(let message, let piece):
      do {
        return try advance(message, piece, contexts)
      } catch {
        // What the context holds is of no use to anybody.
        inflater = nil
        state = .failed(error)
        throw error
      }
    }
  }

  private mutating func advance(
    _ message: Progress, _ piece: Piece, _ contexts: DeflateContexts
  ) throws(WebSocketProtocolError) -> DataPiece? {
    var (message, piece) = (message, piece)
    let (bytes, isDone) =
      if let whole = inflateWhole(message, &piece, contexts) { (whole, true) } else {
        try inflateStep(&piece, contexts)
      }
    let isFinal = isDone && piece.end == .final
    if piece.kind == .text {
      guard message.text.consume(bytes.span) else { throw .invalidText }
      if isFinal && !message.text.isComplete { throw .truncatedText }
    }
    let output = DataPiece(
      kind: piece.kind, bytes: bytes, isFirst: message.isFirst, isFinal: isFinal, startsFrame: piece.startsFrame)
    message.isFirst = false
    piece.startsFrame = false
    if isFinal {
      state = .betweenMessages
      if !window.contextTakeover { release(to: contexts) }
    } else {
      state = isDone ? .betweenPieces(message) : .inPiece(message, piece)
    }
    // What says nothing is not passed on. A frame says something by its beginning: frames are counted.
    return bytes.isEmpty && !output.startsFrame && !isFinal ? try next(contexts) : output
  }

  /// Inflates a message that starts anew, if all of it is there.
  private func inflateWhole(_ message: Progress, _ piece: inout Piece, _ contexts: DeflateContexts) -> Bytes? {
    guard !window.contextTakeover, inflater == nil, message.isFirst, case .withTail = piece.end,
      piece.bytes.count == message.compressedBytes, let whole = contexts.inflate(whole: piece.bytes)
    else { return nil }
    piece.bytes = Bytes()
    piece.end = .final
    return whole
  }

  /// Inflates up to a step's size.
  /// - Returns: what it is, and whether all of the piece is inflated.
  private mutating func inflateStep(
    _ piece: inout Piece, _ contexts: DeflateContexts
  ) throws(WebSocketProtocolError) -> (Bytes, isDone: Bool) {
    contexts.prepareInflated()
    let start = contexts.inflated.count
    let isDone = try inflate(&piece, to: contexts)
    let all = contexts.inflated.lend()
    return (all[(all.startIndex + start)...], isDone)
  }

  /// Inflates up to a step's size.
  /// - Returns: whether all of the piece is inflated.
  private mutating func inflate(
    _ piece: inout Piece, to contexts: DeflateContexts
  ) throws(WebSocketProtocolError) -> Bool {
    let end = Swift.min(contexts.inflated.capacity, contexts.inflated.count + Self.stepSize)
    while contexts.inflated.count < end {
      if piece.bytes.isEmpty && !piece.hasOutput {
        switch piece.end {
        case .open, .final: return true
        case .withTail:
          piece.bytes = Self.tail
          piece.end = .final
        }
      }
      let inflater = try context(contexts)
      let before = contexts.inflated.count
      guard
        let step = inflater.inflate(
          piece.bytes.span, to: &contexts.inflated, limit: end - contexts.inflated.count)
      else { throw .invalidCompressedData }
      piece.bytes = piece.bytes.dropFirst(step.consumed)
      piece.hasOutput = step.hasMore
      // The last four bytes are all of an empty block: they give nothing, and end what was begun.
      if case .final = piece.end, contexts.inflated.count > before { throw .truncatedCompressedData }
      if step.hasMore { continue }
      if !piece.bytes.isEmpty { throw .invalidCompressedData }
      if case .final = piece.end, !inflater.isBetweenBlocks { throw .truncatedCompressedData }
      if case .withTail = piece.end { continue }
      return true
    }
    return false
  }

  private mutating func context(_ contexts: DeflateContexts) throws(WebSocketProtocolError) -> Inflater {
    if let inflater { return inflater }
    guard let lent = contexts.inflater(windowBits: window.bits) else { throw .outOfMemory }
    inflater = lent
    return lent
  }

  /// Gives the context back, whatever it was in the midst of.
  mutating func release(to contexts: DeflateContexts) {
    if let inflater { contexts.give(inflater) }
    inflater = nil
  }
}
