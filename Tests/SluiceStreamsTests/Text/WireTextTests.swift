import SluiceStreams
import Testing

@Suite("Text from the wire is bytes")
struct WireTextTests {
  @Test(
    "letters are those of ASCII: what Unicode folds to them, or takes for the same, is something else",
    arguments: [
      ("K", "\u{212A}"), ("k", "\u{212A}"), ("s", "\u{017F}"), ("i", "\u{0130}"), (";", "\u{037E}"),
      ("`", "\u{1FEF}"), ("1", "\u{0661}"), ("1", "\u{FF11}"), ("A", "\u{FF21}"), ("e", "e\u{301}"),
    ])
  func folds(ascii: String, other: String) {
    #expect(!other.utf8.equals(ascii))
    #expect(!other.utf8.equalsIgnoringCase(ascii))
    #expect(other.lowercasedASCII.utf8.elementsEqual(other.utf8.map(ASCII.lowercased)))
    #expect(ASCII.isTokenCharacter(ascii.utf8.first!) == ascii.utf8.isToken)
    #expect(!other.utf8.isToken)
    #expect(other.utf8.decimal == nil)
    #expect(!("x" + other).utf8.ends(with: ascii))
  }

  @Test("canonical equivalents are different texts")
  func canonicalEquivalence() {
    #expect("\u{E9}" == "e\u{301}")
    #expect(!"\u{E9}".utf8.equals("e\u{301}"))
    #expect(!"\u{E9}".utf8.begins(with: "e"))
    #expect("e\u{301}".utf8.begins(with: "e"))
  }

  @Test("each byte's case, class and value are as in the tables of ASCII")
  func classes() {
    for byte in UInt8.min...UInt8.max {
      let scalar = Unicode.Scalar(byte)
      let isASCII = byte < 0x80
      let isLetter = isASCII && scalar.properties.isAlphabetic
      #expect(ASCII.isLetter(byte) == isLetter)
      #expect(ASCII.isDigit(byte) == ("0"..."9" ~= scalar))
      #expect(ASCII.isBlank(byte) == (byte == 0x20 || byte == 0x09))
      #expect(ASCII.hexDigit(byte).map(Int.init) == (isASCII ? Int(String(scalar), radix: 16) : nil))
      #expect(
        ASCII.lowercased(byte) == (isLetter ? Character(scalar).lowercased().utf8.first : byte),
        "\(byte)")
      #expect(ASCII.uppercased(byte) == (isLetter ? Character(scalar).uppercased().utf8.first : byte), "\(byte)")
      let isToken = isLetter || "0"..."9" ~= scalar || "!#$%&'*+-.^_`|~".unicodeScalars.contains(scalar)
      #expect(ASCII.isTokenCharacter(byte) == isToken, "\(byte)")
    }
  }

  @Test(
    "a combining character swallows no separator",
    arguments: ["\u{301}", "\u{600}", "\u{200D}", "\u{FE0F}", "\u{1F3FD}", "\u{20E3}"])
  func combining(mark: String) {
    #expect("a,\(mark)b".utf8.listElements.map { Array($0) } == [Array("a".utf8), Array("\(mark)b".utf8)])
    #expect("a\(mark),b".utf8.listElements.map { Array($0) } == [Array("a\(mark)".utf8), Array("b".utf8)])
    #expect("\(mark),b".utf8.listElements.last?.text == "b")
    #expect("\"a,\(mark)\"\(mark),b".utf8.listElements.count == 2)
    #expect("a:\(mark)b".utf8.divided(at: UInt8(ascii: ":"))?.behind.elementsEqual("\(mark)b".utf8) == true)
    #expect(" \(mark)".utf8.trimmingBlanks.elementsEqual(mark.utf8))
    #expect("\"a\"\(mark)".utf8.unquoted == nil)
  }

  @Test(
    "only SP and HTAB are blanks",
    arguments: ["\u{85}", "\u{A0}", "\u{2003}", "\u{200B}", "\u{FEFF}", "\u{B}", "\u{C}", "\r", "\n", "\u{1680}"])
  func blanks(space: String) {
    #expect("\(space)a\(space)".utf8.trimmingBlanks.elementsEqual("\(space)a\(space)".utf8))
    #expect("\t a \t".utf8.trimmingBlanks.text == "a")
    #expect(" \t ".utf8.trimmingBlanks.isEmpty)
  }

  @Test(
    "lists pass over empty elements, and cut nothing within quotes",
    arguments: [
      ("", []), (",", []), (" , ,\t,", []), ("a", ["a"]), (",a,,b ,\tc", ["a", "b", "c"]),
      ("a=\"1,2\", b", ["a=\"1,2\"", "b"]), ("a=\"\\\",\", b", ["a=\"\\\",\"", "b"]),
      ("a=\"\\\\\", b", ["a=\"\\\\\"", "b"]), ("a=\"1, b", ["a=\"1, b"]), ("a\\,b", ["a\\", "b"]),
    ] as [(String, [String])])
  func lists(text: String, elements: [String]) {
    #expect(text.utf8.listElements.map(\.text) == elements)
  }

  @Test(
    "a quoted string says what stands between its quotes; what is neither that nor a token says nothing",
    arguments: [
      ("a", "a"), ("\"\"", ""), ("\"a b\"", "a b"), ("\"a\\\"b\\\\\"", "a\"b\\"), ("", nil), ("a b", nil),
      ("\"a", nil), ("\"a\\", nil), ("\"a\\\"", nil), ("\"a\"b", nil), ("\u{212A}", nil),
    ] as [(String, String?)])
  func quotedStrings(text: String, said: String?) {
    #expect(text.utf8.unquoted == said)
  }

  @Test(
    "a number is its digits and nothing else",
    arguments: [
      ("0", 0), ("007", 7), ("9223372036854775807", .max), ("9223372036854775808", nil),
      ("99999999999999999999999", nil), ("", nil), ("+1", nil), ("-1", nil), (" 1", nil), ("1 ", nil), ("1_000", nil),
      ("0x1", nil), ("\u{0661}", nil), ("1\u{301}", nil), ("1\0", nil),
    ] as [(String, Int?)])
  func numbers(text: String, number: Int?) {
    #expect(text.utf8.decimal == number)
  }

  @Test("a list with many quotes, escapes and commas is cut in linear time")
  func linear() {
    for unit in ["\"", ",", "\\\"", "\",", " "] {
      let text = String(repeating: unit, count: 200_000)
      #expect(text.utf8.listElements.count <= 200_001)
    }
  }

  @Test("a token is found in a list over several fields, in any case of letters and in nothing else")
  func tokens() {
    #expect(["a, b", " Keep-Alive\t,close"].list(contains: "keep-alive"))
    #expect(
      !["\u{212A}eep-alive", "keep-alive\u{301}", "keep-alive\u{A0}", "\"keep-alive\""].list(contains: "keep-alive"))
  }
}
