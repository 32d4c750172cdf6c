import Sluice

/// Makes control characters visible, so that a peer can't command the terminal: ESC becomes `\x1b`. Line feeds and tabs pass.
///
/// C1 controls (U+0080 to U+009F), which some terminals obey, are escaped both as UTF-8 and as single bytes.
struct TerminalEscape: Transform {
  /// Bytes of a UTF-8 character that are still to come; the first of C2 is held until the second shows whether it is a C1 control.
  private var continuation = 0
  private var holdsC2 = false

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
    var builder = BytesBuilder(capacity: input.count + 16)
    for byte in input { append(byte, to: &builder) }
    output.append(builder.take())
  }

  mutating func finish(into output: inout TransformOutput<Bytes>) {
    if holdsC2 { output.append(Bytes("\\xc2")) }
    holdsC2 = false
  }

  private mutating func append(_ byte: UInt8, to builder: inout BytesBuilder) {
    if holdsC2 {
      holdsC2 = false
      switch byte {
      case 0x80...0x9F: return escape(byte, to: &builder)
      case 0xA0...0xBF:
        builder.append(0xC2)
        return builder.append(byte)
      default: escape(0xC2, to: &builder)
      }
    }
    switch byte {
    case 0x80...0xBF where continuation > 0:
      continuation -= 1
      return builder.append(byte)
    case 0xC2: holdsC2 = true
    case 0xC3...0xDF: start(1, byte, to: &builder)
    case 0xE0...0xEF: start(2, byte, to: &builder)
    case 0xF0...0xF4: start(3, byte, to: &builder)
    case 0x0A, 0x09, 0x20...0x7E:
      continuation = 0
      builder.append(byte)
    default:
      continuation = 0
      escape(byte, to: &builder)
    }
  }

  private mutating func start(_ count: Int, _ byte: UInt8, to builder: inout BytesBuilder) {
    continuation = count
    builder.append(byte)
  }

  private func escape(_ byte: UInt8, to builder: inout BytesBuilder) {
    let digits = String(byte, radix: 16)
    builder.append(digits.count == 1 ? "\\x0\(digits)" : "\\x\(digits)")
  }
}
