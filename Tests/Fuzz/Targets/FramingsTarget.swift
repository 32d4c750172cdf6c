import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

/// The framings that make messages of bytes: the messages, and the error behind them, don't depend on how the bytes are cut, and what is written again is
/// read again.
enum FramingsTarget: FuzzTarget {
  static let name = "framings"
  private static let limit = 100

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let framing = framing(reader.byte())
    let kind: MessageKind = reader.byte() & 1 == 0 ? .text : .binary
    let whole = reader.rest.dropFirst()
    let expected = found([whole], framing, kind)
    for pieces in [reader.pieces(), whole.indices.map { whole[$0...$0] }] {
      let cut = found(pieces, framing, kind)
      promise(cut == expected, "\(framing): in \(pieces.count) pieces \(cut), whole \(expected)")
    }
    if isWhole(framing) { writeAgain(expected.messages, framing, kind) }
  }

  private struct Found: Equatable {
    var messages: [Message] = []
    var error = ""
  }

  private static func found(_ pieces: [Bytes], _ framing: MessageFraming, _ kind: MessageKind) -> Found {
    var decoder = MessageDecoder(framing, kind: kind, limit: limit)
    var found = Found()
    var output = TransformOutput<Message>()
    func take() {
      while let message = output.popFirst() {
        found.messages.append(Message(kind: message.kind, bytes: message.bytes.compacted()))
      }
    }
    do {
      for piece in pieces {
        try decoder.transform(piece, into: &output)
        take()
      }
      try decoder.finish(into: &output)
    } catch StreamError.limitExceeded(let what, let limit, _) {
      // How much it was beyond that depends on how much came at once.
      found.error = "\(what) beyond \(limit)"
    } catch { found.error = "\(error)" }
    take()
    for message in found.messages {
      promise(message.bytes.count <= limit || isBySize(framing), "a message of \(message.bytes.count) bytes")
    }
    return found
  }

  private static func writeAgain(_ messages: [Message], _ framing: MessageFraming, _ kind: MessageKind) {
    var written = TransformOutput<Bytes>()
    var wire = BytesBuilder()
    do { for message in messages { try MessageEncoder(framing).transform(message, into: &written) } } catch {
      return promise(false, "\(framing): a message that was read can't be written: \(error)")
    }
    while let piece = written.popFirst() { wire.append(piece) }
    let again = found([wire.take()], framing, kind)
    promise(again == Found(messages: messages), "\(framing): written again it is \(again), and was \(messages)")
  }

  private static func framing(_ number: UInt8) -> MessageFraming {
    switch number % 10 {
    case 0: .lines
    case 1: .nullTerminated
    case 2: .lengthPrefixed(LengthPrefix(.one))
    case 3: .lengthPrefixed(LengthPrefix(.two, isLittleEndian: true))
    case 4: .lengthPrefixed()
    case 5: .lengthPrefixed(LengthPrefix(.eight))
    case 6: .contentLength
    case 7: .separated(by: "--")
    case 8: .separated(by: "aab")
    default: .chunks(3)
    }
  }

  /// Whether what is written is read as it was: a line's CR at its end is not, nor are the sizes of chunks.
  private static func isWhole(_ framing: MessageFraming) -> Bool {
    switch framing {
    case .lengthPrefixed, .contentLength, .nullTerminated: true
    case .lines, .separated, .chunks, .none: false
    }
  }

  private static func isBySize(_ framing: MessageFraming) -> Bool {
    if case .chunks = framing { true } else { false }
  }

  // MARK: inputs

  private static let parts: [StaticString] = [
    "a", "aa", "ab", "aab", "-", "--", "\n", "\r\n", "\r", "Content-Length: ", "content-length:", "5", "0", "12", "101",
    "\r\n\r\n", ":", " ", "é",
    "Content-Type: x\r\n", "0123456789012345678901234567890123456789",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    for _ in 0..<3 { builder.append(generator.byte()) }
    for _ in 0..<generator.below(24) {
      switch generator.below(6) {
      case 0: builder.append(generator.byte())
      case 1: builder.append(UInt8(generator.below(6)))
      case 2: builder.append(contentsOf: [0, 0, 0] as [UInt8])
      default: builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
