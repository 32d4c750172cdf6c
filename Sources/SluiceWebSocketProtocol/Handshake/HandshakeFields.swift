import HTTPTypes

extension HTTPFields {
  /// - Parameter name: In lower case.
  func values(named name: String) -> [String] {
    compactMap { $0.name.canonicalName == name ? $0.value : nil }
  }

  /// Whether a list (RFC 9110 §5.6.1) has a token, in any case of letters, over all fields of the name.
  /// - Parameter token: In lower case.
  func list(_ name: HTTPField.Name, contains token: String) -> Bool {
    self[values: name].contains { value in
      value.utf8.split(separator: UInt8(ascii: ",")).contains { element in
        let start = element.drop(while: isBlank)
        let rest = start.dropFirst(token.utf8.count)
        return rest.allSatisfy(isBlank) && start.prefix(token.utf8.count).elementsEqual(token.utf8, by: isSameLetter)
      }
    }
  }
}

extension [String] {
  /// The elements of the values of a list field. Empty ones are passed over.
  var elements: [Substring] {
    flatMap { $0.split(separator: ",") }
      .map { element in
        let start = element.drop { $0 == " " || $0 == "\t" }
        return start.last.map { $0 == " " || $0 == "\t" } == true ? start.trimmingBlanksAtEnd : start
      }
      .filter { !$0.isEmpty }
  }
}

extension Substring {
  fileprivate var trimmingBlanksAtEnd: Substring {
    var rest = self
    while rest.last == " " || rest.last == "\t" { rest.removeLast() }
    return rest
  }
}

private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

/// - Parameter lowercase: Not a capital letter.
private func isSameLetter(_ byte: UInt8, _ lowercase: UInt8) -> Bool {
  byte == lowercase || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) && byte | 0x20 == lowercase
}

/// RFC 9110 §5.6.2.
func isToken(_ text: some StringProtocol) -> Bool {
  !text.isEmpty && text.utf8.allSatisfy(isTokenCharacter)
}

func isTokenCharacter(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"):
    true
  default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}
