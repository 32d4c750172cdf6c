import SluiceStreams
import SluiceWebSocketProtocol

/// The frame decoder: whatever comes, and however it is cut, all of its sinks find the same, and so does the other end of a relay.
enum FramesTarget: FuzzTarget {
  static let name = "frames"
  private static let limit = 1000

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = reader.byte()
    let role: WebSocketRole = settings & 1 == 0 ? .server : .client
    let reserved: ReservedBits = settings & 2 == 0 ? [] : .rsv1
    let whole = reader.rest.dropFirst()
    let pieces = reader.pieces()
    let expected = found([whole], role, reserved, lent: false)
    for lent in [false, true] {
      let cut = found(pieces, role, reserved, lent: lent)
      promise(cut == expected, "in \(pieces.count) pieces \(cut), whole \(expected)")
    }
    let relayed = foundBehindRelay(pieces, role, reserved)
    promise(relayed == expected, "relayed \(relayed), whole \(expected)")
    if settings & 4 != 0 {
      let separate = foundByPieces(pieces, role, reserved)
      promise(
        separate == expected || isLimit(expected.last) && separate.starts(with: expected.dropLast()),
        "by pieces \(separate), whole \(expected)")
    }
  }

  private enum Found: Equatable {
    case message(MessageKind, Bytes)
    case control(UInt8, Bytes)
    case error(WebSocketProtocolError)
  }

  private static func found(
    _ pieces: [Bytes], _ role: WebSocketRole, _ reserved: ReservedBits, lent: Bool
  ) -> [Found] {
    var decoder = FrameDecoder(role: role, allowedReservedBits: reserved)
    var assembler = MessageAssembler(maxMessageSize: limit, maxFragments: 8)
    var found: [Found] = []
    do {
      for var piece in pieces {
        var position = 0
        var message: Message?
        search: while true {
          let stop =
            try lent
            ? decoder.nextMessage(in: piece.span, from: &position, assembling: &assembler, &message)
            : decoder.nextMessage(in: &piece, assembling: &assembler, &message)
          switch stop {
          case .nothing: break search
          case .element: if let message { found.append(.message(message.kind, message.bytes.compacted())) }
          case .control: _ = take(FrameEvent<Never>(try decoder.takeControl()), &found)
          }
        }
        promise(lent ? position == piece.count : piece.isEmpty, "something is left in the input")
      }
    } catch {
      found.append(.error(error))
    }
    return found
  }

  /// What is relayed is read by the target's peer, the rest here.
  private static func foundBehindRelay(
    _ pieces: [Bytes], _ role: WebSocketRole, _ reserved: ReservedBits
  ) -> [Found] {
    var decoder = FrameDecoder(role: role, allowedReservedBits: reserved)
    var assembler = MessageAssembler(maxMessageSize: limit, maxFragments: 8)
    let keys = role == .server ? MaskingKeys() : nil
    var found: [Found] = []
    do {
      for var piece in pieces {
        var isDone = false
        while !isDone {
          var output = BytesBuilder()
          let count = decoder.relay(piece.span, to: &output, limit: limit, highWatermark: 50, keys: keys)
          piece = piece.dropFirst(count)
          found += Self.found([output.take()], role, [], lent: false)
          if count > 0 { continue }
          var message: Message?
          switch try decoder.nextMessage(in: &piece, assembling: &assembler, &message) {
          case .nothing: isDone = true
          case .element: if let message { found.append(.message(message.kind, message.bytes.compacted())) }
          case .control: _ = take(FrameEvent<Never>(try decoder.takeControl()), &found)
          }
        }
      }
    } catch {
      found.append(.error(error))
    }
    return found
  }

  private static func take<Data>(_ event: FrameEvent<Data>, _ found: inout [Found]) -> Data? {
    switch event {
    case .data(let data): return data
    case .ping(let bytes): found.append(.control(9, bytes.compacted()))
    case .pong(let bytes): found.append(.control(10, bytes.compacted()))
    case .close(let code, let reason): found.append(close(code, reason))
    }
    return nil
  }

  private static func foundByPieces(_ pieces: [Bytes], _ role: WebSocketRole, _ reserved: ReservedBits) -> [Found] {
    var decoder = FrameDecoder(role: role, allowedReservedBits: reserved)
    var assembler = MessageAssembler(maxMessageSize: limit, maxFragments: 8)
    var found: [Found] = []
    do {
      for var input in pieces {
        while let event = try decoder.next(in: &input) {
          guard let piece = take(event, &found), let message = try assembler.append(piece) else { continue }
          found.append(.message(message.kind, message.bytes.compacted()))
        }
      }
    } catch {
      found.append(.error(error))
    }
    return found
  }

  /// What a header promises beyond a limit is known before the bytes that come with it are looked at, if the decoder knows
  /// the limit.
  private static func isLimit(_ found: Found?) -> Bool {
    switch found {
    case .error(.messageTooBig), .error(.tooManyFragments): true
    default: false
    }
  }

  private static func close(_ code: CloseCode?, _ reason: String) -> Found {
    .control(8, Bytes("\(code?.rawValue ?? 0) \(reason)"))
  }

  // MARK: inputs

  private static let firsts: [UInt8] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0x81, 0x82, 0xC1]

  /// A frame or two, mostly right, with something changed in half of them.
  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 64)
    let settings = generator.byte()
    builder.append(settings)
    builder.append(generator.byte() & 0x1F)
    var positions = 2
    for _ in 0..<1 + generator.below(3) {
      let length = generator.below(8) == 0 ? generator.below(200) : generator.below(12)
      builder.append(firsts[generator.below(firsts.count)])
      let mask: UInt8 = settings & 1 == 0 ? 0x80 : 0
      if length < 126 {
        builder.append(mask | UInt8(length))
      } else {
        builder.append(mask | 126)
        builder.append(bigEndian: UInt16(length))
      }
      // Half of the masked frames have a key of zeros, so that their text is text.
      if mask != 0 {
        builder.append(bigEndian: generator.below(2) == 0 ? 0 : UInt32(truncatingIfNeeded: generator.next()))
      }
      var word: UInt64 = 0
      for index in 0..<length {
        if index & 7 == 0 { word = generator.next() & (settings & 8 == 0 ? 0x7F7F_7F7F_7F7F_7F7F : .max) }
        builder.append(UInt8(truncatingIfNeeded: word >> (UInt64(index & 7) * 8)))
      }
      positions = builder.count
    }
    let input = builder.take()
    guard settings & 16 != 0 else { return input }
    var bytes = Array(input)
    bytes[2 + generator.below(positions - 2)] = generator.byte()
    if settings & 32 != 0 { bytes[2 + generator.below(positions - 2)] ^= 1 << UInt8(generator.below(8)) }
    return Bytes(bytes)
  }
}
