import HTTPTypes
import SluiceStreams

/// Limits of a request or response head.
public struct HeadLimits: Hashable, Sendable {
  /// Bytes of the whole head, with the empty line at its end. Default: 16 KiB.
  public var maxHeadBytes: Int
  /// Field lines. Default: 100; more than 65,000 count as that, since `HTTPFields` traps soon after.
  public var maxFieldCount: Int {
    didSet { maxFieldCount = Self.limited(maxFieldCount) }
  }

  public init(maxHeadBytes: Int = 16 << 10, maxFieldCount: Int = 100) {
    self.maxHeadBytes = maxHeadBytes
    self.maxFieldCount = Self.limited(maxFieldCount)
  }

  /// For a head that was read within limits.
  package static let none = HeadLimits(maxHeadBytes: .max, maxFieldCount: .max)

  private static func limited(_ count: Int) -> Int { Swift.min(count, 65_000) }
}

/// Gathers the bytes of a head until its empty line, however they are cut.
///
/// Each byte is looked at once, and a line end that is not CRLF fails as soon as it is seen.
package struct HeadReader: ~Copyable {
  package enum Kind {
    /// RFC 9112 §2.2: empty lines may come before it, as some clients put one behind the last request's body.
    case request
    case response
  }
  private let limits: HeadLimits
  private var gathered = BytesBuilder()
  private var count = 0
  private var progress: Progress

  /// What came last, as far as the end of the head depends on it.
  private enum Progress {
    case beforeFirstLine
    case emptyLine
    case inFirstLine
    case inLine
    case carriageReturn
    case lineStart
    case lastCarriageReturn
  }

  package init(_ kind: Kind = .response, limits: HeadLimits = HeadLimits()) {
    self.limits = limits
    progress = kind == .request ? .beforeFirstLine : .inLine
  }

  /// Takes the next bytes.
  /// - Returns: the head with its empty line, and the bytes behind it; nil when more are needed.
  package mutating func consume(_ bytes: Bytes) throws(HTTPHeadError) -> (head: Bytes, rest: Bytes)? {
    let bytes = try passEmptyLines(bytes)
    let span = bytes.span
    for offset in 0..<span.count {
      if try consume(span[offset]) {
        let end = bytes.startIndex + offset + 1
        let rest = bytes[end...]
        if gathered.isEmpty { return (bytes[..<end], rest) }
        gathered.append(bytes[..<end])
        return (gathered.take(), rest)
      }
    }
    Reached.mark("http.headCut")
    gathered.append(bytes)
    return nil
  }

  /// What is left behind the empty lines before a request.
  private mutating func passEmptyLines(_ bytes: Bytes) throws(HTTPHeadError) -> Bytes {
    var rest = bytes
    while let byte = rest.first {
      switch (progress, byte) {
      case (.beforeFirstLine, 0x0D): progress = .emptyLine
      case (.emptyLine, 0x0A): progress = .beforeFirstLine
      case (.beforeFirstLine, 0x0A), (.emptyLine, _): throw .bareLineEnd
      case (.beforeFirstLine, _):
        progress = .inFirstLine
        return rest
      default: return rest
      }
      count += 1
      if count > limits.maxHeadBytes { throw .headTooLong(limit: limits.maxHeadBytes) }
      rest = rest.dropFirst()
    }
    return rest
  }

  /// - Returns: whether the byte ends the head.
  private mutating func consume(_ byte: UInt8) throws(HTTPHeadError) -> Bool {
    count += 1
    if count > limits.maxHeadBytes {
      if case .inFirstLine = progress { throw .requestLineTooLong(limit: limits.maxHeadBytes) }
      throw .headTooLong(limit: limits.maxHeadBytes)
    }
    switch (progress, byte) {
    case (.carriageReturn, 0x0A): progress = .lineStart
    case (.lastCarriageReturn, 0x0A): return true
    case (.carriageReturn, _), (.lastCarriageReturn, _), (_, 0x0A): throw .bareLineEnd
    case (.lineStart, 0x0D): progress = .lastCarriageReturn
    case (.inLine, 0x0D), (.inFirstLine, 0x0D): progress = .carriageReturn
    case (.inFirstLine, _): break
    default: progress = .inLine
    }
    return false
  }
}

/// The lines of a head.
struct HeadLines {
  let first: Bytes
  let fields: HTTPFields
  /// The Host fields, which a request has apart from its others.
  let hosts: [String]

  /// - Parameters:
  ///   - head: A whole head, in which every CR is followed by an LF and no LF stands alone.
  ///   - unfolding: Whether a line that begins with white space continues the field before (RFC 9112 §5.2), which is an error otherwise.
  init(_ head: Bytes, limits: HeadLimits, unfolding: Bool = false) throws(HTTPHeadError) {
    var rest = head
    guard let first = Self.takeLine(from: &rest), !rest.isEmpty else { throw .malformedRequestLine }
    self.first = first
    var fields = HTTPFields()
    var hosts: [String] = []
    // The line that is left when nothing is behind it is the empty one.
    while let line = Self.takeLine(from: &rest), !rest.isEmpty {
      guard fields.count + hosts.count < limits.maxFieldCount else { throw .tooManyFields(limit: limits.maxFieldCount) }
      let (name, value) = try Self.field(unfolding ? Self.unfold(line, from: &rest) : line)
      if name.canonicalName == "host" {
        hosts.append(value.string)
      } else {
        fields.append(HTTPField(name: name, value: value))
      }
    }
    self.fields = fields
    self.hosts = hosts
  }

  /// The next line, without its end; nil if no line ends any more.
  private static func takeLine(from rest: inout Bytes) -> Bytes? {
    guard let end = rest.firstIndex(of: 0x0A) else { return nil }
    defer { rest = rest[(end + 1)...] }
    return rest[..<end].dropLast()
  }

  /// The line with those that continue it, a space in place of each fold.
  private static func unfold(_ line: Bytes, from rest: inout Bytes) -> Bytes {
    guard let next = rest.first, ASCII.isBlank(next) else { return line }
    var builder = BytesBuilder(capacity: 2 * line.count)
    builder.append(line.trimmingBlanks)
    while let next = rest.first, ASCII.isBlank(next), let line = takeLine(from: &rest) {
      builder.append(0x20)
      builder.append(line.trimmingBlanks)
    }
    return builder.take()
  }

  static func field(_ line: Bytes) throws(HTTPHeadError) -> (HTTPField.Name, Bytes) {
    if let start = line.first, ASCII.isBlank(start) { throw .foldedField }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { throw .invalidFieldName }
    let name = line[..<colon]
    guard name.isToken, let fieldName = HTTPField.Name(name.string) else { throw .invalidFieldName }
    let value = line[(colon + 1)...].trimmingBlanks
    guard value.allSatisfy(HTTPSyntax.isValueCharacter) else { throw .invalidFieldValue(name: fieldName.rawName) }
    return (fieldName, value)
  }
}
