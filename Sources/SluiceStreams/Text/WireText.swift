/// A text from the wire as what it is: bytes. Its elements, indices and slices are those of the UTF-8.
///
/// ```swift
/// let type = field.wire.prefix { $0 != UInt8(ascii: ";") }.trimmingBlanks
/// if type.equalsIgnoringCase("text/event-stream") { … }
/// ```
package typealias WireText = Substring.UTF8View

extension StringProtocol where SubSequence == Substring {
  package var wire: WireText { self[...].utf8 }

  /// With the capital letters of ASCII as small ones, and everything else as it is.
  package var lowercasedASCII: String { String(decoding: utf8.map(ASCII.lowercased), as: UTF8.self) }
}

extension Collection<UInt8> {
  package var text: String { String(decoding: self, as: UTF8.self) }

  @inlinable
  package func equals(_ text: some StringProtocol) -> Bool { elementsEqual(text.utf8) }

  /// Whether both are the same but for the case of ASCII's letters.
  @inlinable
  package func equalsIgnoringCase(_ text: some StringProtocol) -> Bool {
    elementsEqual(text.utf8) { ASCII.lowercased($0) == ASCII.lowercased($1) }
  }

  @inlinable
  package func begins(with text: some StringProtocol) -> Bool { starts(with: text.utf8) }

  /// RFC 9110 §5.6.2.
  @inlinable
  package var isToken: Bool { !isEmpty && allSatisfy(ASCII.isTokenCharacter) }

  /// The number that these bytes are: digits and nothing else, not even a sign.
  /// - Returns: nil also for a number beyond `Int`.
  package var decimal: Int? {
    if isEmpty { return nil }
    var number = 0
    for byte in self {
      guard ASCII.isDigit(byte) else { return nil }
      let (tens, overflows) = number.multipliedReportingOverflow(by: 10)
      let (sum, overflowsToo) = tens.addingReportingOverflow(Int(byte - UInt8(ascii: "0")))
      if overflows || overflowsToo { return nil }
      number = sum
    }
    return number
  }

  /// The bytes before the first such byte, and those after it; nil if there is none.
  package func divided(at byte: UInt8) -> (before: SubSequence, behind: SubSequence)? {
    guard let index = firstIndex(of: byte) else { return nil }
    return (self[..<index], self[self.index(after: index)...])
  }

  /// The parts between separators that do not stand within a quoted string (RFC 9110 §5.6.4); empty ones too. A quote that is not closed goes to
  /// the end.
  package func split(outsideQuotes separator: UInt8) -> [SubSequence] {
    var parts: [SubSequence] = []
    var start = startIndex
    var (isQuoted, isEscaped) = (false, false)
    for index in indices {
      let byte = self[index]
      if isEscaped {
        isEscaped = false
      } else if isQuoted, byte == UInt8(ascii: "\\") {
        isEscaped = true
      } else if byte == UInt8(ascii: "\"") {
        isQuoted.toggle()
      } else if byte == separator, !isQuoted {
        parts.append(self[start..<index])
        start = self.index(after: index)
      }
    }
    parts.append(self[start...])
    return parts
  }

  /// What a token or a quoted string (RFC 9110 §5.6.4) says; nil if it is neither.
  package var unquoted: String? {
    guard first == UInt8(ascii: "\"") else { return isToken ? text : nil }
    var bytes: [UInt8] = []
    var rest = self.dropFirst()
    while let byte = rest.first {
      rest = rest.dropFirst()
      switch byte {
      case UInt8(ascii: "\""): return rest.isEmpty ? bytes.text : nil
      case UInt8(ascii: "\\"):
        guard let escaped = rest.first else { return nil }
        bytes.append(escaped)
        rest = rest.dropFirst()
      default: bytes.append(byte)
      }
    }
    return nil
  }
}

extension BidirectionalCollection<UInt8>
where SubSequence: BidirectionalCollection, SubSequence.SubSequence == SubSequence {
  /// Without the optional white space (RFC 9110 §5.6.3) at both ends.
  package var trimmingBlanks: SubSequence {
    var rest = self[...]
    while let first = rest.first, ASCII.isBlank(first) { rest = rest.dropFirst() }
    while let last = rest.last, ASCII.isBlank(last) { rest = rest.dropLast() }
    return rest
  }

  package func ends(with text: some StringProtocol) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }

  /// The elements of a comma-separated list (RFC 9110 §5.6.1), in order. Empty ones are passed over.
  package var listElements: [SubSequence] {
    split(outsideQuotes: UInt8(ascii: ",")).map(\.trimmingBlanks).filter { !$0.isEmpty }
  }
}

extension Sequence<String> {
  /// The elements of a list that is spread over the fields of one name (RFC 9110 §5.3).
  package var listElements: [WireText] { flatMap(\.wire.listElements) }

  /// Whether a token is among the elements, in any case of letters.
  package func list(contains token: String) -> Bool { listElements.contains { $0.equalsIgnoringCase(token) } }
}
