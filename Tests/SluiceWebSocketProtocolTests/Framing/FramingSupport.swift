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
  /// `next()`, pieces joined.
  case pieces
  /// `next()` and `MessageAssembler.append`.
  case assembler
  /// `next(assembling:)`.
  case assembling
  /// `nextWhole` and `message(of:)` where they apply.
  case whole
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
      decoder.feed(Bytes(chunk))
      switch reader {
      case .pieces: try takePieces(&decoder, &joined, &found)
      case .assembler: try takeAssembled(&decoder, &assembler, &found)
      case .assembling: try takeMessages(&decoder, &assembler, &found)
      case .whole:
        while let frame = decoder.nextWhole(limit: maxMessageSize) {
          found.append(.message(frame.kind, Array(try decoder.message(of: frame))))
        }
        try takeMessages(&decoder, &assembler, &found)
      }
      let left = decoder.input.count
      #expect(left == 0, "a drained decoder holds no input")
    }
  } catch {
    found.append(.error(error))
    // What only an assembler finds, its decoder has not failed of.
    if reader == .assembler { decoder.fail(error) }
    #expect(throws: error, "the error stays") { try decoder.next() }
    decoder.feed([0x82, 0x00])
    #expect(throws: error, "and what is fed after it is ignored") { try decoder.next() }
  }
  return found
}

private func takePieces(
  _ decoder: inout FrameDecoder, _ joined: inout [UInt8], _ found: inout [Found]
) throws(WebSocketProtocolError) {
  while let event = try decoder.next() {
    guard case .data(let piece) = event else {
      found.append(control(event))
      continue
    }
    if piece.isFirst { joined = [] }
    joined += Array(piece.bytes)
    if piece.isFinal { found.append(.message(piece.kind, joined)) }
  }
}

private func takeAssembled(
  _ decoder: inout FrameDecoder, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  while let event = try decoder.next() {
    guard case .data(let piece) = event else {
      found.append(control(event))
      continue
    }
    if let message = try assembler.append(piece) { found.append(.message(message.kind, Array(message.bytes))) }
  }
}

private func takeMessages(
  _ decoder: inout FrameDecoder, _ assembler: inout MessageAssembler, _ found: inout [Found]
) throws(WebSocketProtocolError) {
  while let event = try decoder.next(assembling: &assembler) {
    switch event {
    case .message(let message): found.append(.message(message.kind, Array(message.bytes)))
    case .encoded(let piece):
      if let message = try assembler.append(piece) { found.append(.message(message.kind, Array(message.bytes))) }
    case .ping(let bytes): found.append(.ping(Array(bytes)))
    case .pong(let bytes): found.append(.pong(Array(bytes)))
    case .close(let code, let reason): found.append(.close(code?.rawValue, reason))
    }
  }
}

private func control(_ event: FrameEvent) -> Found {
  switch event {
  case .ping(let bytes): .ping(Array(bytes))
  case .pong(let bytes): .pong(Array(bytes))
  case .close(let code, let reason): .close(code?.rawValue, reason)
  case .data: preconditionFailure("no control frame")
  }
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
