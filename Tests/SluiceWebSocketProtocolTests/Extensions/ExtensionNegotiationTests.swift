import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("Extensions (RFC 6455 §9)")
struct ExtensionNegotiationTests {
  @Test(
    "a field is read as it is meant",
    arguments: [
      ("a", ["a"]),
      ("a;b;c=1, d", ["a; b; c=1", "d"]),
      (" a ; b = \"x\" ,, c ", ["a; b=x", "c"]),
      (#"a; b="x\y""#, ["a; b=xy"]),
      ("a; b, a; b=2", ["a; b", "a; b=2"]),
      ("", []),
    ])
  func parses(_ field: String, _ expected: [String]) throws {
    #expect(try ExtensionParameters.parse(field).map(\.description) == expected)
  }

  @Test(
    "a malformed field is refused",
    arguments: [
      ";", "a;", "a; =1", "a; b=", "a b", #"a; b=""#, #"a; b="x"#, #"a; b="x\"#, #"a; b="""#, #"a; b="x y""#,
      "a; b=1 2", "ä",
      "a\u{0}",
    ])
  func refuses(_ field: String) {
    #expect(throws: MalformedExtensions.self) { try ExtensionParameters.parse(field) }
  }

  @Test("adversarial fields take linear time (ATTACKS 25)", .timeLimit(.minutes(1)))
  func linear() throws {
    let count = 200_000
    #expect(throws: Never.self) { try ExtensionParameters.parse(String(repeating: " ", count: count)) }
    #expect(throws: Never.self) { try ExtensionParameters.parse(String(repeating: ",", count: count)) }
    #expect(throws: (any Error).self) {
      try ExtensionParameters.parse("a; b=\"" + String(repeating: "\\b", count: count))
    }
    #expect(
      try ExtensionParameters.parse("a" + String(repeating: "; b=1", count: count)).first?.parameters.count == count)
  }

  /// An extension that agrees to whatever is asked.
  private struct Agreeable: WebSocketExtension {
    var name: String
    var reservedBits: ReservedBits
    func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }
    func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
      ExtensionAnswer(parameters: offers[0], session: Session())
    }
    func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { Session() }
  }

  private final class Session: ExtensionSession {
    func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage { message }
    func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage { message }
    func close() {}
  }

  @Test("the server chooses in its own order, and no two extensions with one bit")
  func serverChoice() throws {
    let negotiation = ExtensionNegotiation([
      Agreeable(name: "one", reservedBits: .rsv1), Agreeable(name: "also-one", reservedBits: .rsv1),
      Agreeable(name: "two", reservedBits: .rsv2), Agreeable(name: "none", reservedBits: []),
    ])
    let (negotiated, field) = try negotiation.answer(["none, two; a=1", "also-one, one, unknown; x"])
    #expect(field == "one, two; a=1, none")
    #expect(negotiated.reservedBits == [.rsv1, .rsv2])
    #expect(negotiated.sessions.count == 3)
    #expect(try negotiation.answer(["unknown"]).field == nil)
    #expect(try negotiation.answer([]).field == nil)
    #expect(throws: HandshakeRejection.self) { try negotiation.answer(["one;;"]) }
  }

  @Test("the client takes what it offered, once, and nothing else (ATTACKS 19, 26)")
  func clientCheck() throws {
    let negotiation = ExtensionNegotiation([
      Agreeable(name: "one", reservedBits: .rsv1), Agreeable(name: "also-one", reservedBits: .rsv1),
    ])
    #expect(try negotiation.offer() == "one, also-one")
    #expect(try negotiation.accept(["one"]).reservedBits == .rsv1)
    #expect(try negotiation.accept([]).sessions.isEmpty)
    #expect(throws: ClientHandshakeError.unexpectedExtension("__proto__")) { try negotiation.accept(["__proto__"]) }
    #expect(throws: ClientHandshakeError.malformedExtensions) { try negotiation.accept(["one;"]) }
    #expect(throws: ClientHandshakeError.invalidExtension("one", reason: "chosen twice")) {
      try negotiation.accept(["one", "one"])
    }
    #expect(throws: ClientHandshakeError.self) { try negotiation.accept(["one, also-one"]) }
  }

  @Test("what can't be written into a field is not offered (ATTACKS 27)")
  func unwritable() {
    let negotiation = ExtensionNegotiation([Agreeable(name: "a\r\nX: y", reservedBits: [])])
    #expect(throws: ExtensionOfferError.self) { try negotiation.offer() }
  }
}
