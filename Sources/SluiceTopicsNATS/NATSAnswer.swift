#if NATS
  import SluiceStreams
  import SluiceTopics

  /// What JetStream answers, of which few values are of interest.
  enum NATSValue: Sendable {
    case object([String: NATSValue])
    case array([NATSValue])
    case text(String)
    /// nil: not a whole number.
    case number(Int64?)
    case other

    subscript(name: String) -> NATSValue? {
      if case .object(let members) = self { members[name] } else { nil }
    }
    var text: String? {
      if case .text(let text) = self { text } else { nil }
    }
    var number: UInt64? {
      if case .number(let number?) = self { UInt64(exactly: number) } else { nil }
    }
    var array: [NATSValue]? {
      if case .array(let elements) = self { elements } else { nil }
    }

    /// - Returns: nil for what is not JSON (RFC 8259), or nests deeper than 32.
    init?(_ bytes: Bytes) {
      var reader = NATSValueReader(bytes: bytes)
      guard let value = reader.value(depth: 0), reader.isAtEnd else { return nil }
      self = value
    }
  }

  private struct NATSValueReader {
    let bytes: Bytes
    var index: Int

    init(bytes: Bytes) {
      self.bytes = bytes
      index = bytes.startIndex
    }

    private var next: UInt8? { index < bytes.endIndex ? bytes[index] : nil }

    var isAtEnd: Bool {
      mutating get {
        skipSpace()
        return index == bytes.endIndex
      }
    }

    private mutating func skipSpace() {
      while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { index += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
      skipSpace()
      guard next == byte else { return false }
      index += 1
      return true
    }

    mutating func value(depth: Int) -> NATSValue? {
      guard depth < 32 else { return nil }
      skipSpace()
      switch next {
      case UInt8(ascii: "{"): return object(depth)
      case UInt8(ascii: "["): return array(depth)
      case UInt8(ascii: "\""): return string().map { .text($0) }
      case nil: return nil
      default: return literal()
      }
    }

    private mutating func object(_ depth: Int) -> NATSValue? {
      index += 1
      var members: [String: NATSValue] = [:]
      if take(UInt8(ascii: "}")) { return .object(members) }
      repeat {
        skipSpace()
        guard next == UInt8(ascii: "\""), let name = string(), take(UInt8(ascii: ":")),
          let value = value(depth: depth + 1)
        else { return nil }
        members[name] = value
      } while take(UInt8(ascii: ","))
      return take(UInt8(ascii: "}")) ? .object(members) : nil
    }

    private mutating func array(_ depth: Int) -> NATSValue? {
      index += 1
      var elements: [NATSValue] = []
      if take(UInt8(ascii: "]")) { return .array(elements) }
      repeat {
        guard let value = value(depth: depth + 1) else { return nil }
        elements.append(value)
      } while take(UInt8(ascii: ","))
      return take(UInt8(ascii: "]")) ? .array(elements) : nil
    }

    private mutating func literal() -> NATSValue? {
      let start = index
      while let byte = next, ASCII.isLetter(byte) || ASCII.isDigit(byte) || byte == 0x2B || byte == 0x2D || byte == 0x2E
      {
        index += 1
      }
      guard index > start else { return nil }
      let text = String(decoding: bytes[start..<index], as: UTF8.self)
      switch text {
      case "true", "false", "null": return .other
      default: return Double(text) == nil ? nil : .number(Int64(text))
      }
    }

    /// At its first quotation mark.
    private mutating func string() -> String? {
      index += 1
      var start = index
      var units: [UInt8] = []
      while let byte = next {
        switch byte {
        case UInt8(ascii: "\""):
          defer { index += 1 }
          if units.isEmpty { return String(decoding: bytes[start..<index], as: UTF8.self) }
          units += bytes[start..<index]
          return String(decoding: units, as: UTF8.self)
        case UInt8(ascii: "\\"):
          units += bytes[start..<index]
          index += 1
          guard let character = escaped() else { return nil }
          units += Array(String(character).utf8)
          start = index
        case 0..<0x20: return nil
        default: index += 1
        }
      }
      return nil
    }

    /// Halves of a character beyond U+FFFF become U+FFFD: only the texts of errors have such.
    private mutating func escaped() -> Unicode.Scalar? {
      guard let byte = next else { return nil }
      index += 1
      switch byte {
      case UInt8(ascii: "n"): return "\n"
      case UInt8(ascii: "r"): return "\r"
      case UInt8(ascii: "t"): return "\t"
      case UInt8(ascii: "b"): return "\u{8}"
      case UInt8(ascii: "f"): return "\u{C}"
      case UInt8(ascii: "u"):
        guard bytes.endIndex - index >= 4,
          let number = UInt32(String(decoding: bytes[index..<(index + 4)], as: UTF8.self), radix: 16)
        else { return nil }
        index += 4
        return Unicode.Scalar(number) ?? "\u{FFFD}"
      default: return Unicode.Scalar(byte)
      }
    }
  }

  /// An error of JetStream's.
  struct NATSError: Error, Hashable {
    /// As HTTP has it.
    let status: UInt64
    let code: UInt64
    let text: String

    /// Too few servers of a cluster are known to each other: also while it starts.
    static let noSuitablePeers: UInt64 = 10005
    static let noSuchStream: UInt64 = 10059
    static let noSuchMessage: UInt64 = 10037
    static let wrongLastSequence: UInt64 = 10071
    static let notStored: UInt64 = 10077

    init?(_ value: NATSValue) {
      guard let error = value["error"] else { return nil }
      status = error["code"]?.number ?? 500
      code = error["err_code"]?.number ?? 0
      text = error["description"]?.text ?? "unknown error"
    }

    /// What it means for those who read and append.
    func topicError(_ request: String) -> TopicError {
      let reason = "\(request): \(text) (\(code))"
      // Also said of a stream that is deleted meanwhile.
      let isBeyondLimits = code == Self.notStored && text.utf8.firstRange(of: "maximum".utf8) != nil
      if isBeyondLimits { return .refused(reason) }
      return status == 503 || [Self.notStored, Self.noSuitablePeers].contains(code)
        ? .unavailable(reason) : .refused(reason)
    }
  }
#endif
