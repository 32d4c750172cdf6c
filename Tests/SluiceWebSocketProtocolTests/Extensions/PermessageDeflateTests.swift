import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("permessage-deflate (RFC 7692)")
struct PermessageDeflateTests {
  // MARK: parameters

  private let takeover = PermessageDeflate(
    outgoing: .init(contextTakeover: true), incoming: .init(contextTakeover: true))

  private func answer(_ extension: PermessageDeflate, to offers: String) throws -> String? {
    `extension`.answer(try ExtensionParameters.parse(offers))?.parameters.description
  }

  @Test(
    "a server's answers (§7.1)",
    arguments: [
      ("permessage-deflate", "permessage-deflate"),
      ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=15"),
      ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
      ("permessage-deflate; server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8"),
      ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
      ("permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"),
      (#"permessage-deflate; server_max_window_bits="10""#, "permessage-deflate; server_max_window_bits=10"),
      // An offer that is wrong is passed over (ATTACKS 19).
      ("permessage-deflate; unknown, permessage-deflate", "permessage-deflate"),
    ])
  func serverAnswers(_ offer: String, _ expected: String) throws {
    #expect(try answer(takeover, to: offer) == expected)
  }

  @Test(
    "offers that are declined (ATTACKS 19)",
    arguments: [
      "server_max_window_bits=7", "server_max_window_bits=16", "server_max_window_bits=015", "server_max_window_bits",
      "client_max_window_bits=7", "client_max_window_bits=16", "server_no_context_takeover=1", "unknown",
      "client_max_window_bits; client_max_window_bits", "server_max_window_bits=10; server_max_window_bits=11",
      "Server_No_Context_Takeover",
    ])
  func declines(_ parameters: String) throws {
    #expect(try answer(takeover, to: "permessage-deflate; " + parameters) == nil)
  }

  @Test("without takeover, the server says so for both sides")
  func noTakeover() throws {
    #expect(
      try answer(PermessageDeflate(), to: "permessage-deflate")
        == "permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    let small = PermessageDeflate(
      outgoing: .init(contextTakeover: true, bits: 9), incoming: .init(contextTakeover: true, bits: 10))
    #expect(try answer(small, to: "permessage-deflate") == "permessage-deflate; server_max_window_bits=9")
    #expect(
      try answer(small, to: "permessage-deflate; client_max_window_bits")
        == "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10")
  }

  @Test(
    "a client refuses answers to what it did not ask (ATTACKS 19)",
    arguments: [
      "permessage-deflate; unknown", "permessage-deflate; server_max_window_bits",
      "permessage-deflate; client_max_window_bits",
      "permessage-deflate; server_max_window_bits=+9", "permessage-deflate; server_max_window_bits=16",
    ])
  func clientRefuses(_ text: String) {
    #expect(throws: (any Error).self) {
      for answer in try ExtensionParameters.parse(text) { _ = try takeover.accept(answer) }
    }
  }

  @Test("a client insists on what it asked for")
  func clientInsists() throws {
    let strict = PermessageDeflate(incoming: .init(contextTakeover: false, bits: 10))
    #expect(
      strict.offers().map(\.description) == [
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; "
          + "client_max_window_bits"
      ])
    #expect(throws: DeflateParameterError.self) { try strict.accept(ExtensionParameters("permessage-deflate")) }
    #expect(throws: DeflateParameterError.self) {
      try strict.accept(ExtensionParameters("permessage-deflate", ["server_no_context_takeover": nil]))
    }
    #expect(throws: Never.self) {
      try strict.accept(
        ExtensionParameters(
          "permessage-deflate", ["server_no_context_takeover": nil, "server_max_window_bits": "9"]))
    }
  }

  // MARK: messages

  private func session(_ settings: PermessageDeflate) throws -> DeflateSession {
    let answer = settings.answer([ExtensionParameters("permessage-deflate", ["client_max_window_bits": nil])])
    return try #require(answer?.session as? DeflateSession)
  }

  /// Inflates one message that comes in pieces of `size` bytes.
  private func inflate(
    _ compressed: Bytes, as kind: MessageKind = .binary, size: Int = .max, with session: DeflateSession,
    limit: Int = 1 << 30
  ) throws -> Bytes? {
    var assembler = MessageAssembler(maxMessageSize: limit)
    var rest = compressed
    var isFirst = true
    while true {
      let part = rest.prefix(size)
      rest = rest.dropFirst(part.count)
      session.feed(
        DataPiece(
          kind: kind, reserved: .rsv1, bytes: part, isFirst: isFirst, isFinal: rest.isEmpty, startsFrame: isFirst))
      isFirst = false
      while let piece = try session.nextInflated() {
        if let message = try assembler.append(piece) { return message.bytes.compacted() }
      }
      if rest.isEmpty { return nil }
    }
  }

  @Test("the RFC's examples (§7.2.3)", arguments: [1, 2, .max])
  func examples(size: Int) throws {
    let session = try session(takeover)
    #expect(try inflate([0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], size: size, with: session) == "Hello")
    // §7.2.3.2: the window is shared with the message before.
    #expect(try inflate([0xF2, 0x00, 0x11, 0x00, 0x00], size: size, with: session) == "Hello")
    // §7.2.3.3: a block that is not compressed.
    #expect(
      try inflate([0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00], size: size, with: session)
        == "Hello")
    // §7.2.3.4: a block that says to be the last.
    #expect(try inflate([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], size: size, with: session) == "Hello")
    #expect(try inflate([0xF2, 0x00, 0x11, 0x00, 0x00], size: size, with: session) == "Hello")
    // §7.2.3.5: two blocks.
    #expect(
      try inflate(
        [0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00], size: size, with: session)
        == "Hello")
    // §7.2.3.6: an empty message.
    #expect(try inflate([0x00], size: size, with: session) == "")
    #expect(try inflate([], size: size, with: session) == "")
  }

  private func pseudorandom(_ count: Int, alphabet: UInt64 = 16) -> Bytes {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    return Bytes(
      (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: (state >> 33) % alphabet)
      })
  }

  @Test("what is compressed is inflated to the same, with every window", arguments: [8, 9, 12, 15], [true, false])
  func roundTrip(bits: Int, contextTakeover: Bool) throws {
    var settings = PermessageDeflate(
      outgoing: .init(contextTakeover: contextTakeover, bits: bits),
      incoming: .init(contextTakeover: contextTakeover, bits: bits))
    settings.threshold = 0
    let session = try session(settings)
    for (size, count) in [(1, 10), (7, 1000), (4096, 20_000), (.max, 500_000), (.max, 1000), (.max, 0)] {
      let message = pseudorandom(count)
      guard let compressed = session.compress(message)?.compacted() else {
        #expect(!contextTakeover && count < 20)
        continue
      }
      #expect(compressed.count < count || count < 20)
      #expect(try inflate(compressed, size: size, with: session) == message)
    }
  }

  @Test("a message in fragments, compressed as it comes, is one message")
  func fragments() throws {
    let session = try session(takeover)
    for _ in 0..<3 {
      let message = pseudorandom(100_000)
      var compressed = BytesBuilder()
      var rest = message
      while !rest.isEmpty {
        let part = rest.prefix(7000)
        rest = rest.dropFirst(part.count)
        compressed.append(
          try #require(session.compress(fragment: part, isCompressible: true, isFinal: rest.isEmpty)))
      }
      #expect(try inflate(compressed.take(), size: 100, with: session) == message)
    }
    // An end that brings nothing: RFC 7692 §7.2.3.6.
    let first = try #require(session.compress(fragment: "abc", isCompressible: true, isFinal: false)).compacted()
    let last = try #require(session.compress(fragment: "", isCompressible: true, isFinal: true)).compacted()
    #expect(last == [0x00])
    #expect(try inflate(Bytes(Array(first) + Array(last)), with: session) == "abc")
    #expect(session.compress(fragment: "secret", isCompressible: false, isFinal: false) == nil)
    #expect(session.compress(fragment: "secret", isCompressible: true, isFinal: true) == nil)
  }

  @Test("a short message is sent as it is")
  func threshold() throws {
    var settings = takeover
    settings.threshold = 100
    let session = try session(settings)
    #expect(session.compress(pseudorandom(99)) == nil)
    #expect(session.compress(pseudorandom(100)) != nil)
  }

  @Test("the same message to many is compressed once where the parameters allow")
  func sharedCompression() throws {
    let contexts = DeflateContexts()
    let sessions = try (0..<2).map { _ in try session(PermessageDeflate()) }
    for session in sessions { session.attach(contexts, maxMessageSize: .max) }
    let message = pseudorandom(5000)
    let first = try #require(sessions[0].compress(message))
    let second = try #require(sessions[1].compress(message))
    let third = try #require(sessions[0].compress(message))
    #expect(first == second)
    #expect(second.isIdentical(to: third))
    #expect(try inflate(third, with: sessions[0]) == message)
  }

  @Test(
    "a bomb stops at the limit of the inflated message, in one piece and in many (ATTACKS 17, 18)",
    arguments: [1, 100, .max])
  func bomb(size: Int) throws {
    let session = try session(takeover)
    let zeros = Bytes([UInt8](repeating: 0, count: 10 << 20))
    let compressed = try #require(session.compress(zeros)).compacted()
    #expect(compressed.count < 20_000)
    #expect(throws: WebSocketProtocolError.self) { try inflate(compressed, size: size, with: session, limit: 1 << 20) }
  }

  @Test(
    "what is no deflate stream fails, and the context is of no use after it (ATTACKS 20)",
    arguments: [
      [0xFF, 0xFF, 0xFF], [0xF2, 0x48, 0xCD, 0xC9], [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48],
      [0x00, 0x05, 0x00, 0xFA, 0xFE, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00], [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
      [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0xFF, 0xFF],
    ] as [Bytes], [1, .max])
  func corrupt(_ compressed: Bytes, size: Int) throws {
    let session = try session(takeover)
    #expect(throws: WebSocketProtocolError.self) { try inflate(compressed, size: size, with: session) }
    #expect(throws: WebSocketProtocolError.self) { try session.nextInflated() }
    session.feed(DataPiece(kind: .binary, reserved: .rsv1, bytes: [0x00]))
    #expect(throws: WebSocketProtocolError.self) { try session.nextInflated() }
  }

  @Test("a message is cut off too if its last bytes fill a step's output exactly", arguments: [1, 40, .max])
  func cutOffAtStep(size: Int) throws {
    // Found by the fuzzer: 32,768 bytes and a match that the last four bytes, taken for codes, would begin.
    let compressed = Bytes(
      hex(
        "ec c1 31 01 00 00 00 c2 a0 f5 4f 6d 0d 0f a0 00 ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff "
          + "ff ff 00 00 c1 00 00 00 00 4b 4b 4b 4b 00 00 00 00 00 ff 00 00 ff ff ff ff ff 00 00 c1 00 00 00 00 23 4b 4b 4b 4b"
      ))
    #expect(throws: WebSocketProtocolError.self) { try inflate(compressed, size: size, with: session(takeover)) }
  }

  @Test("text is checked as it is inflated")
  func text() throws {
    let session = try session(takeover)
    let good = try #require(session.compress(Bytes(String(repeating: "grüße ", count: 300)))).compacted()
    #expect(try inflate(good, as: .text, size: 3, with: session)?.count == 2400)
    var settings = takeover
    settings.threshold = 0
    let other = try self.session(settings)
    let bad = try #require(other.compress([0x61, 0xFF, 0x61])).compacted()
    #expect(throws: WebSocketProtocolError.invalidText) { try inflate(bad, as: .text, with: other) }
    let third = try self.session(settings)
    let truncated = try #require(third.compress([0x61, 0xC3])).compacted()
    #expect(throws: WebSocketProtocolError.truncatedText) { try inflate(truncated, as: .text, with: third) }
  }

  @Test("a million empty frames of a compressed message are counted (ATTACKS 11)")
  func emptyFrames() throws {
    let session = try session(takeover)
    var assembler = MessageAssembler(maxMessageSize: 1 << 20, maxFragments: 1000)
    var count = 0
    #expect(throws: WebSocketProtocolError.tooManyFragments(limit: 1000)) {
      for number in 0..<1_000_000 {
        count = number
        session.feed(DataPiece(kind: .text, reserved: .rsv1, bytes: [], isFirst: number == 0, isFinal: false))
        while let piece = try session.nextInflated() { _ = try assembler.append(piece) }
      }
    }
    #expect(count == 1000)
  }

  @Test("contexts are lent for a message, kept a while and given back (ATTACKS 21)")
  func contexts() throws {
    var scheduled = 0
    let contexts = DeflateContexts { scheduled += 1 }
    let session = try session(PermessageDeflate())
    session.attach(contexts, maxMessageSize: .max)
    #expect(scheduled == 0)
    _ = session.compress(pseudorandom(10_000))
    _ = session.compress(pseudorandom(10_000))
    #expect(scheduled == 1)
    contexts.trim()
    #expect(scheduled == 2)
    contexts.trim()
    #expect(scheduled == 2)
    let message = pseudorandom(10_000)
    let compressed = try #require(session.compress(message)).compacted()
    #expect(scheduled == 3)
    #expect(try inflate(compressed, with: session) == message)
  }
}
