import SluiceStreams
import SluiceWebSocketProtocol
import SluiceZlib

/// Inflating what anybody sent, within the limit; and what was compressed comes back as it was.
enum InflateTarget: FuzzTarget {
  static let name = "inflate"
  private static let limit = 100_000
  private static let contexts = DeflateContexts()

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = reader.byte()
    let window = PermessageDeflate.Window(contextTakeover: settings & 1 == 0, bits: 8 + Int(settings >> 1 & 7))
    let whole = reader.rest.dropFirst()
    let pieces = reader.pieces()
    if settings & 0x80 == 0 {
      let expected = inflated([whole], window)
      let cut = inflated(pieces, window)
      // A distance beyond a smaller window is found only where the window's copy is looked at.
      promise(
        cut == expected || window.bits < 15 || isLetPassByLibdeflate(whole),
        "in \(pieces.count) pieces \(cut), whole \(expected)")
    } else {
      roundTrip(pieces, window, level: 1 + Int(settings >> 4 & 7))
    }
  }

  private static func session(_ window: PermessageDeflate.Window, level: Int = 6) -> DeflateSession? {
    var deflate = PermessageDeflate(outgoing: window, incoming: window, level: level)
    deflate.threshold = 0
    let offer = ExtensionParameters(
      "permessage-deflate",
      [
        "client_max_window_bits": String(window.bits), "server_max_window_bits": String(window.bits),
      ])
    let session = deflate.answer([offer])?.session as? DeflateSession
    session?.attach(contexts, maxMessageSize: limit)
    return session
  }

  /// The message that the pieces are, twice, so that a context that is taken over is used.
  /// - Returns: nil for one that failed: what is found first, a limit or an end that is missing, depends on the pieces.
  private static func inflated(_ pieces: [Bytes], _ window: PermessageDeflate.Window) -> [Bytes?] {
    guard let session = session(window) else { return [] }
    defer { session.close() }
    var messages: [Bytes?] = []
    for _ in 0..<2 {
      var assembler = MessageAssembler(maxMessageSize: limit)
      do {
        for (index, piece) in pieces.enumerated() {
          session.feed(
            DataPiece(
              kind: .binary, reserved: .rsv1, bytes: piece, isFirst: index == 0, isFinal: index == pieces.count - 1))
          while let part = try session.nextInflated() {
            promise(part.bytes.count <= 64 << 10, "a part of \(part.bytes.count) bytes")
            if let message = try assembler.append(part) { messages.append(message.bytes.compacted()) }
          }
        }
      } catch {
        messages.append(nil)
        break
      }
    }
    return messages
  }

  /// Whether the first that zlib finds wrong with a message is one of the faults that `WholeInflater` lets pass.
  private static func isLetPassByLibdeflate(_ message: Bytes) -> Bool {
    guard let inflater = Inflater(windowBits: 15) else { return false }
    var rest = Bytes(Array(message) + [0x00, 0x00, 0xFF, 0xFF])
    var hasMore = true
    while !rest.isEmpty || hasMore {
      var output = BytesBuilder(capacity: limit)
      guard let step = inflater.inflate(rest.span, to: &output, limit: limit) else {
        return [
          "invalid code lengths set", "invalid bit length repeat", "too many length or distance symbols",
          "invalid literal/length code", "invalid distance code",
        ].contains(inflater.failure)
      }
      rest = rest.dropFirst(step.consumed)
      hasMore = step.hasMore
    }
    return false
  }

  private static func roundTrip(_ messages: [Bytes], _ window: PermessageDeflate.Window, level: Int) {
    guard let sender = session(window, level: level), let receiver = session(window) else {
      return promise(false, "the offer is declined")
    }
    for message in messages {
      guard let compressed = sender.compress(message) else { continue }
      receiver.feed(DataPiece(kind: .binary, reserved: .rsv1, bytes: Bytes(Array(compressed))))
      var assembler = MessageAssembler(maxMessageSize: limit)
      var result: Bytes?
      do {
        while let part = try receiver.nextInflated() {
          if let message = try assembler.append(part) { result = message.bytes.compacted() }
        }
      } catch {
        promise(false, "\(error)")
      }
      promise(result == message, "\(message.count) bytes became \(result?.count ?? -1)")
    }
    sender.close()
    receiver.close()
  }

  // MARK: inputs

  /// Something that zlib wrote, with a few bytes changed; or something for it to compress.
  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    let settings = generator.byte()
    let alphabet = 1 + generator.below(12)
    let text = Bytes((0..<generator.below(300)).map { _ in UInt8(0x61 + generator.below(alphabet)) })
    var payload = Array(text)
    if settings & 0x80 == 0, let session = session(.init(bits: 15)), let compressed = session.compress(text) {
      payload = Array(compressed)
      session.close()
      for _ in 0..<generator.below(3) where !payload.isEmpty {
        payload[generator.below(payload.count)] = generator.byte()
      }
    }
    return Bytes([settings, generator.byte()] + payload)
  }
}
