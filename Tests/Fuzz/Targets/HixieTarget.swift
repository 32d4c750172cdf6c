import SluiceStreams
import SluiceWebSocketProtocol

/// The decoder of the first versions: the same however the input is cut.
enum HixieTarget: FuzzTarget {
  static let name = "hixie"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let version: WebSocketVersion = reader.byte() & 1 == 0 ? .hixie76 : .hixie75
    let whole = reader.rest.dropFirst()
    let pieces = reader.pieces()
    let expected = texts([whole], version)
    let cut = texts(pieces, version)
    promise(cut == expected, "in \(pieces.count) pieces \(cut), whole \(expected)")
  }

  private static func texts(_ pieces: [Bytes], _ version: WebSocketVersion) -> [String] {
    var decoder = HixieDecoder(version: version, maxSkippedBytes: 1000)
    var assembler = MessageAssembler(maxMessageSize: 1000)
    var texts: [String] = []
    do {
      for var input in pieces {
        while let event = try decoder.next(in: &input) {
          switch event {
          case .data(let piece): if let message = try assembler.append(piece) { texts.append(message.bytes.string) }
          case .ping, .pong: promise(false, "the first versions have no ping")
          case .close: texts.append("close")
          }
        }
      }
    } catch {
      // Which of two faults in a text is found first depends on the pieces.
      texts.append("error")
    }
    return texts
  }

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    let bytes: [UInt8] = [0x00, 0xFF, 0x80, 0x81, 0x01, 0x61, 0xC3, 0xA9, 0x7F, 0x05]
    return Bytes(
      (0..<2 + generator.below(30)).map { _ in generator.below(5) == 0 ? generator.byte() : bytes[generator.below(10)] }
    )
  }
}
