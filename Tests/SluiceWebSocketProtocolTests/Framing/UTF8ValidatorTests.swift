import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("UTF-8 (RFC 6455 §8.1, ATTACKS 10)")
struct UTF8ValidatorTests {
  static func isValid(_ text: [UInt8]) -> Bool { UTF8Validator.isValid(text.span) }

  /// What a validator says to some more text.
  static func consume(_ text: ArraySlice<UInt8>, with validator: inout UTF8Validator) -> Bool {
    validator.consume(text.span)
  }

  /// How many bytes are taken before the first bad one; nil if none is bad.
  static func firstBad(_ text: [UInt8]) -> Int? {
    var validator = UTF8Validator()
    for index in text.indices where !validator.consume(text.span.extracting(index..<index + 1)) { return index }
    return nil
  }

  @Test(
    "a text that can't become valid fails at the first byte that makes it so",
    arguments: [
      // Continuation bytes where a character begins, and bytes that no character has.
      ("80", 0), ("BF", 0), ("41 80", 1), ("C0", 0), ("C1", 0), ("F5", 0), ("F8", 0), ("FC", 0), ("FE", 0), ("FF", 0),
      // Overlong forms.
      ("C0 AF", 0), ("C1 BF", 0), ("E0 80 AF", 1), ("E0 9F BF", 1), ("F0 80 80 AF", 1), ("F0 8F BF BF", 1),
      // Surrogates.
      ("ED A0 80", 1), ("ED AD BF", 1), ("ED BF BF", 1),
      // Above U+10FFFF.
      ("F4 90 80 80", 1), ("F4 BF BF BF", 1), ("F5 80 80 80", 0),
      // A character that stops too early.
      ("C2 41", 1), ("E2 41", 1), ("E2 82 41", 2), ("F0 9F 41", 2), ("F0 9F 98 41", 3), ("E2 82 C2 80", 2),
      ("CE BA E1 BD B9 CF 83 CE BC CE B5 ED A0 80 65 64", 12),
    ])
  func firstBadByte(text: String, index: Int) {
    let text = hex(text)
    #expect(Self.firstBad(text) == index)
    for padding in [0, 1, 15, 16, 31, 32, 33, 64, 100] {
      let padded = Array(repeating: UInt8(ascii: "a"), count: padding) + text
      #expect(Self.firstBad(padded) == padding + index)
      // In one go, with valid text behind it, and cut off right behind the bad byte.
      #expect(!Self.isValid(padded + Array(repeating: 0x62, count: 70)))
      var validator = UTF8Validator()
      #expect(!Self.consume(padded[...(padding + index)], with: &validator))
      #expect(!Self.consume([0x41], with: &validator))
      #expect(!Self.consume([], with: &validator))
      #expect(!validator.isComplete)
    }
  }

  @Test("a character that is cut by plain text is none, wherever the text goes on", arguments: [0, 30, 31, 62, 63])
  func cutByPlainText(before: Int) {
    for between in [1, 31, 32, 33, 64, 96] {
      let text = [UInt8](repeating: 0x61, count: before) + [0xC3] + [UInt8](repeating: 0x61, count: between) + [0xA9]
      #expect(!Self.isValid(text))
    }
  }

  @Test(
    "the first and last character of each length are valid, and incomplete before their last byte",
    arguments: [
      "00", "7F", "C2 80", "DF BF", "E0 A0 80", "E1 80 80", "EC BF BF", "ED 80 80", "ED 9F BF", "EE 80 80", "EF BF BF",
      "EF BF BE", "F0 90 80 80", "F0 BF BF BF", "F1 80 80 80", "F3 BF BF BF", "F4 80 80 80", "F4 8F BF BF",
    ])
  func boundaries(character: String) {
    let character = hex(character)
    for padding in [0, 1, 30, 31, 32, 63, 64, 65] {
      let text = Array(repeating: UInt8(ascii: "a"), count: padding) + character
      #expect(Self.isValid(text))
      for count in padding + 1..<text.count {
        var validator = UTF8Validator()
        #expect(Self.consume(text[..<count], with: &validator))
        #expect(!validator.isComplete)
        #expect(!Self.isValid(Array(text[..<count])))
        #expect(Self.consume(text[count...], with: &validator))
        #expect(validator.isComplete)
      }
    }
  }

  @Test("says what the standard library says about every sequence of 4 bytes at the borders of the ranges")
  func exhaustive() {
    let borders: [UInt8] = [
      0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0,
      0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
    ]
    var text: [UInt8] = [0, 0, 0, 0]
    for first in borders {
      for second in borders {
        for third in borders {
          for fourth in borders {
            (text[0], text[1], text[2], text[3]) = (first, second, third, fourth)
            if UTF8Validator.isValid(text.span) != (String(validating: text, as: UTF8.self) != nil) {
              Issue.record("wrong about \(text)")
            }
          }
        }
      }
    }
  }

  @Test("any split of a text gives the same as the whole")
  func splits() {
    let text = Array(
      "Κόσμε, naïve façade — 漢字仮名交じり文 😀👩‍👩‍👧 and 100 ASCII bytes: \(String(repeating: "x", count: 100))é".utf8)
    for first in 0...text.count {
      for second in first...min(first + 9, text.count) {
        var validator = UTF8Validator()
        let isValid =
          validator.consume(text.span.extracting(0..<first)) && validator.consume(text.span.extracting(first..<second))
          && validator.consume(text.span.extracting(second..<text.count))
        if !isValid || !validator.isComplete { Issue.record("split at \(first), \(second)") }
      }
    }
  }

  @Test("one bad byte is found at every place of a long text", arguments: [8, 16, 17, 32, 33, 64, 100, 257])
  func badByteAnywhere(count: Int) {
    for index in 0..<count {
      var text = Array(repeating: UInt8(ascii: "a"), count: count)
      text[index] = 0xFF
      if UTF8Validator.isValid(text.span) { Issue.record("missed at \(index)") }
      text[index] = 0xC3
      let isCharacter = index + 1 < count
      if isCharacter { text[index + 1] = 0xA9 }
      if UTF8Validator.isValid(text.span) != isCharacter { Issue.record("wrong at \(index)") }
    }
  }

  @Test("nothing is valid text")
  func empty() {
    #expect(Self.isValid([]))
    var validator = UTF8Validator()
    #expect(Self.consume([], with: &validator))
    #expect(validator.isComplete)
  }
}
