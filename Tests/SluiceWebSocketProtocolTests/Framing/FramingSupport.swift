import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

/// "81 05 48" as bytes.
func hex(_ text: String) -> [UInt8] {
  text.split(separator: " ").map { UInt8($0, radix: 16)! }
}

func bytes(_ builder: consuming BytesBuilder) -> [UInt8] {
  var builder = builder
  return Array(builder.take())
}

/// A frame as the other end of `role` would send it, without any check.
func frame(
  _ first: UInt8, _ payload: [UInt8] = [], for role: WebSocketRole = .server, key: MaskingKey = MaskingKey(1, 2, 3, 250)
) -> [UInt8] {
  let opcode = Opcode(rawValue: first & 0x0F) ?? .text
  let header = FrameHeader(
    opcode, isFinal: first & 0x80 != 0, maskingKey: role == .server ? key : nil, payloadLength: payload.count)
  var builder = BytesBuilder()
  builder.append(header)
  if role == .server { builder.append(payload.span, masking: key) } else { builder.append(payload.span) }
  var result = bytes(builder)
  result[0] = first
  return result
}

/// The two bytes of a code, and a reason.
func closeBody(_ code: UInt16, _ reason: [UInt8] = []) -> [UInt8] {
  [UInt8(code >> 8), UInt8(code & 0xFF)] + reason
}

/// What came out of a decoder: whole messages, control frames, and the error that ended it.
enum Found: Equatable, CustomTestStringConvertible {
  case text([UInt8])
  case binary([UInt8])
  case ping([UInt8])
  case pong([UInt8])
  case close(UInt16?, String)
  case error(WebSocketProtocolError)

  static func text(_ string: String) -> Found { .text(Array(string.utf8)) }
  static func message(_ kind: MessageKind, _ bytes: [UInt8]) -> Found { kind == .text ? .text(bytes) : .binary(bytes) }

  var testDescription: String {
    switch self {
    case .text(let bytes): "text(\(bytes.count): \(bytes.prefix(16)))"
    case .binary(let bytes): "binary(\(bytes.count): \(bytes.prefix(16)))"
    case .ping(let bytes): "ping(\(bytes.count))"
    case .pong(let bytes): "pong(\(bytes.count))"
    case .close(let code, let reason): "close(\(code.map { "\($0)" } ?? "nil"), \(reason))"
    case .error(let error): "error(\(error))"
    }
  }
}

/// The ways to take what a decoder finds. All must find the same.
enum Reader: CaseIterable {
  /// Pieces, joined.
  case pieces
  /// Pieces, and `MessageAssembler.append`.
  case assembler
  /// Messages of bytes that may be kept.
  case messages
  /// Messages of bytes that are lent.
  case lent
  /// Whole messages relayed to another connection, which takes them, and the rest as messages.
  case relay
}

func decode(
  _ chunks: [[UInt8]], role: WebSocketRole = .server, reserved: ReservedBits = [], reader: Reader,
  maxMessageSize: Int = MessageAssembler.defaultMaxMessageSize
) -> [Found] {
  var decoder = FrameDecoder(role: role, allowedReservedBits: reserved)
  var assembler = MessageAssembler(maxMessageSize: maxMessageSize)
  var found: [Found] = []
  var joined: [UInt8] = []
  do {
    for chunk in chunks {
      var input = Bytes(chunk)
      switch reader {
      case .pieces: try takePieces(&decoder, &input, &joined, &found)
      case .assembler: try takeAssembled(&decoder, &input, &assembler, &found)
      case .messages: try takeMessages(&decoder, &input, &assembler, &found)
      case .lent: try takeLent(&decoder, &input, &assembler, &found)
      case .relay: try takeRelayed(&decoder, &input, &assembler, &found)
      }
      #expect(input.isEmpty, "what was decoded is taken from the input")
    }
  } catch {
    found.append(.error(error))
    // What only an assembler finds, its decoder has not failed of.
    if reader == .assembler { decoder.fail(error) }
    var input: Bytes = [0x82, 0x00]
    #expect(throws: error, "the error stays") { try decoder.next(in: &input) }
    #expect(input.isEmpty, "and what comes after it is dropped")
  }
  return found
}

private func takePieces(
  _ decoder: inout FrameDecoder, _ input: inout Bytes, _ joined: inout [UInt8], _ found: inout [Found]
) throws(WebSocketProtocolError) {
  while let event = try decoder.next(in: &input) {
    guard let piece = take(event, &found) else { continue }
    if piece.isFirst { joined = [] }
    joined += Array(piece.bytes)
    if piece.isFinal { found.append(.message(piece.kind, joined)) }
  }
}

private func takeAssembled(
  _ decoder: inout FrameDecoder, _ input: inout Bytes, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  while let event = try decoder.next(in: &input) {
    guard let piece = take(event, &found), let message = try assembler.append(piece) else { continue }
    found.append(.message(message.kind, Array(message.bytes)))
  }
}

private func takeMessages(
  _ decoder: inout FrameDecoder, _ input: inout Bytes, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  var message: Message?
  while true {
    switch try decoder.nextMessage(in: &input, assembling: &assembler, &message) {
    case .nothing: return
    case .element: found.append(.message(message!.kind, Array(message!.bytes)))
    case .control: _ = take(FrameEvent<Never>(try decoder.takeControl()), &found)
    }
  }
}

private func takeLent(
  _ decoder: inout FrameDecoder, _ input: inout Bytes, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  var position = 0
  var message: Message?
  while true {
    switch try decoder.nextMessage(in: input.span, from: &position, assembling: &assembler, &message) {
    case .nothing:
      input = input.dropFirst(position)
      return
    case .element: found.append(.message(message!.kind, Array(message!.bytes)))
    case .control: _ = take(FrameEvent<Never>(try decoder.takeControl()), &found)
    }
  }
}

private func takeRelayed(
  _ decoder: inout FrameDecoder, _ input: inout Bytes, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  let role = decoder.parser.role
  while true {
    var output = BytesBuilder()
    let count = decoder.relay(
      input.span, to: &output, limit: min(assembler.maxMessageSize, 1000), highWatermark: 100,
      keys: role == .server ? MaskingKeys() : nil)
    input = input.dropFirst(count)
    // A relay writes what the role's own peers send.
    found += decode([Array(output.take())], role: role, reader: .pieces)
    if count > 0 { continue }
    var message: Message?
    switch try decoder.nextMessage(in: &input, assembling: &assembler, &message) {
    case .nothing: return
    case .element: found.append(.message(message!.kind, Array(message!.bytes)))
    case .control: _ = take(FrameEvent<Never>(try decoder.takeControl()), &found)
    }
  }
}

/// Notes a control frame.
/// - Returns: what else the event has.
private func take<Data>(_ event: FrameEvent<Data>, _ found: inout [Found]) -> Data? {
  switch event {
  case .data(let data): return data
  case .ping(let bytes): found.append(.ping(Array(bytes)))
  case .pong(let bytes): found.append(.pong(Array(bytes)))
  case .close(let code, let reason): found.append(.close(code?.rawValue, reason))
  }
  return nil
}

/// Every reader finds the same in the input whole, split at each byte, and byte by byte.
func expect(
  _ input: [UInt8], role: WebSocketRole = .server, reserved: ReservedBits = [], gives expected: [Found],
  sourceLocation: SourceLocation = #_sourceLocation
) {
  for reader in Reader.allCases {
    #expect(
      decode([input], role: role, reserved: reserved, reader: reader) == expected, "whole, \(reader)",
      sourceLocation: sourceLocation)
    #expect(
      decode(input.map { [$0] }, role: role, reserved: reserved, reader: reader) == expected,
      "byte by byte, \(reader)", sourceLocation: sourceLocation)
    for split in input.indices {
      let chunks = [Array(input[..<split]), Array(input[split...])]
      let found = decode(chunks, role: role, reserved: reserved, reader: reader)
      if found != expected {
        #expect(found == expected, "split at \(split), \(reader)", sourceLocation: sourceLocation)
      }
    }
  }
}

/// The same, and the decoder fails as soon as the last byte has come, not before.
func expect(
  _ input: [UInt8], role: WebSocketRole = .server, failsAtItsEndWith error: WebSocketProtocolError,
  after found: [Found] = [], sourceLocation: SourceLocation = #_sourceLocation
) {
  expect(input, role: role, gives: found + [.error(error)], sourceLocation: sourceLocation)
  expect(Array(input.dropLast()), role: role, gives: found, sourceLocation: sourceLocation)
}
