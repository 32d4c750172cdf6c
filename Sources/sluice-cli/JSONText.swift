import Sluice
import SluiceStreams

let hexDigits = Array("0123456789abcdef".utf8)

extension String {
  /// As a string of JSON (RFC 8259 §7).
  var jsonQuoted: String {
    var text = BytesBuilder(capacity: utf8.count + 2)
    text.append("\"")
    text.append(jsonEscaped: Bytes(self))
    text.append("\"")
    return text.take().string
  }
}

extension BytesBuilder {
  /// UTF-8, or a piece of it, as it stands in a string of JSON (RFC 8259 §7). A DEL is escaped too; what else a terminal may obey, the control
  /// characters U+0080 to U+009F, can't be told from the pieces that they may be cut into, and is left to who shows the line.
  mutating func append(jsonEscaped text: Bytes) {
    let span = text.span
    var start = 0
    for index in span.indices {
      let byte = span[index]
      if byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") && byte != 0x7F { continue }
      append(span.extracting(start..<index))
      start = index + 1
      switch byte {
      case UInt8(ascii: "\""): append("\\\"")
      case UInt8(ascii: "\\"): append("\\\\")
      case UInt8(ascii: "\n"): append("\\n")
      case UInt8(ascii: "\r"): append("\\r")
      case UInt8(ascii: "\t"): append("\\t")
      default:
        append("\\u00")
        append(hexDigits[Int(byte >> 4)])
        append(hexDigits[Int(byte & 15)])
      }
    }
    append(span.extracting(start..<span.count))
  }
}
