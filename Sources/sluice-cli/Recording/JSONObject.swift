import Sluice
import SluiceStreams

/// The members of an object of JSON (RFC 8259) that are strings or numbers: what a line of a recording is. What else it has is read over.
struct JSONObject {
  private var strings: [String: Bytes] = [:]
  private var numbers: [String: Double] = [:]

  func string(_ name: String) -> Bytes? { strings[name] }
  func number(_ name: String) -> Double? { numbers[name] }

  /// - Returns: nil for what is no object.
  init?(_ line: Bytes) {
    var scanner = Scanner(line)
    guard scanner.take(UInt8(ascii: "{")) else { return nil }
    if !scanner.take(UInt8(ascii: "}")) {
      repeat {
        guard scanner.take(UInt8(ascii: "\"")), let name = scanner.string(), scanner.take(UInt8(ascii: ":")) else {
          return nil
        }
        if scanner.take(UInt8(ascii: "\"")) {
          guard let value = scanner.string() else { return nil }
          strings[name.string] = value
        } else if scanner.isAtNumber {
          guard let value = Double(scanner.word()) else { return nil }
          numbers[name.string] = value
        } else if !scanner.skipValue() {
          return nil
        }
      } while scanner.take(UInt8(ascii: ","))
      guard scanner.take(UInt8(ascii: "}")) else { return nil }
    }
    guard scanner.isAtEnd else { return nil }
  }

  private struct Scanner {
    private let text: Bytes
    private var position: Int

    init(_ text: Bytes) {
      self.text = text
      position = text.startIndex
    }

    private var next: UInt8? { position < text.endIndex ? text[position] : nil }

    private mutating func skipBlanks() {
      while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A { position += 1 }
    }

    var isAtEnd: Bool {
      mutating get {
        skipBlanks()
        return next == nil
      }
    }

    mutating func take(_ byte: UInt8) -> Bool {
      skipBlanks()
      guard next == byte else { return false }
      position += 1
      return true
    }

    var isAtNumber: Bool {
      mutating get {
        skipBlanks()
        guard let byte = next else { return false }
        return ASCII.isDigit(byte) || byte == UInt8(ascii: "-")
      }
    }

    /// A number, or a name such as `true`.
    mutating func word() -> String {
      let start = position
      while let byte = next, ASCII.isDigit(byte) || ASCII.isLetter(byte) || "+-.".utf8.contains(byte) { position += 1 }
      return text[start..<position].string
    }

    /// What stands behind a quote, up to the next. Any bytes: what they must be is asked for elsewhere.
    mutating func string() -> Bytes? {
      var value = BytesBuilder()
      var start = position
      while let byte = next {
        switch byte {
        case UInt8(ascii: "\""):
          value.append(text[start..<position])
          position += 1
          return value.take()
        case UInt8(ascii: "\\"):
          value.append(text[start..<position])
          position += 1
          guard let scalar = escape() else { return nil }
          value.append(contentsOf: String(scalar).utf8)
          start = position
        case 0..<0x20: return nil
        default: position += 1
        }
      }
      return nil
    }

    private mutating func escape() -> Unicode.Scalar? {
      guard let byte = next else { return nil }
      position += 1
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
      case UInt8(ascii: "b"): return "\u{8}"
      case UInt8(ascii: "f"): return "\u{C}"
      case UInt8(ascii: "n"): return "\n"
      case UInt8(ascii: "r"): return "\r"
      case UInt8(ascii: "t"): return "\t"
      case UInt8(ascii: "u"):
        guard let unit = codeUnit() else { return nil }
        guard 0xD800...0xDBFF ~= unit else { return Unicode.Scalar(unit) }
        // The second half of a pair.
        guard next == UInt8(ascii: "\\") else { return nil }
        position += 1
        guard next == UInt8(ascii: "u") else { return nil }
        position += 1
        guard let low = codeUnit(), 0xDC00...0xDFFF ~= low else { return nil }
        return Unicode.Scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00))
      default: return nil
      }
    }

    private mutating func codeUnit() -> UInt32? {
      guard text.endIndex - position >= 4 else { return nil }
      var unit: UInt32 = 0
      for byte in text[position..<position + 4] {
        guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { return nil }
        unit = unit << 4 | UInt32(digit)
      }
      position += 4
      return unit
    }

    /// An array, an object, or a name, whatever is in it.
    mutating func skipValue() -> Bool {
      var depth = 0
      repeat {
        skipBlanks()
        guard let byte = next else { return false }
        switch byte {
        case UInt8(ascii: "\""):
          position += 1
          guard string() != nil else { return false }
        case UInt8(ascii: "["), UInt8(ascii: "{"):
          position += 1
          depth += 1
        case UInt8(ascii: "]"), UInt8(ascii: "}"):
          if depth == 0 { return false }
          position += 1
          depth -= 1
        case UInt8(ascii: ","), UInt8(ascii: ":"):
          if depth == 0 { return false }
          position += 1
        default:
          if word().isEmpty { return false }
        }
      } while depth > 0
      return true
    }
  }
}
