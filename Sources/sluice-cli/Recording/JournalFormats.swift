import Sluice
import SluiceStreams
import SluiceWebSocketProtocol

/// A recording: JSON Lines, which the manual describes, and `replay:` reads.
struct RecordingFormat: JournalFormat {
  static let version = 1
  let source: String
  let target: String

  func header(startedAt time: Duration) -> String {
    "{\"recording\":\(Self.version),\"started\":\"\(time.timeText)\",\"source\":\(source.jsonQuoted),\"target\":\(target.jsonQuoted)}\n"
  }

  func parts(of event: PassageEvent, at time: Duration, since start: Duration) -> JournalLine {
    var head = "{\"time\":\(time.secondsText),\"connection\":\(event.connection)"
    if let side = event.side { head += ",\"from\":\"\(side.rawValue)\"" }
    head += ",\"kind\":\"\(event.content.kind)\""
    if case .failed(let reason) = event.content {
      return JournalLine(head: head + ",\"reason\":\(reason.jsonQuoted)", tail: "}\n")
    }
    guard let data = event.content.bytes else { return JournalLine(head: head, tail: "}\n") }
    head += ",\"size\":\(data.count)"
    if UTF8Validator.isValid(data.span) {
      return JournalLine(
        head: head + ",\"data\":\"", data: data, encode: { piece, _, text in text.append(jsonEscaped: piece) },
        tail: "\"}\n")
    }
    return JournalLine(
      head: head + ",\"base64\":\"", data: data, encode: { piece, _, text in text.append(Base64.encode(piece)) },
      tail: "\"}\n")
  }
}

/// A log for people: a line for each element, and what it is in hexadecimal if that was asked for.
struct LogFormat: JournalFormat {
  let showsHex: Bool

  func header(startedAt time: Duration) -> String { "" }

  func parts(of event: PassageEvent, at time: Duration, since start: Duration) -> JournalLine {
    var head = "\((start + time).timeText) \(event.connection)"
    if let side = event.side { head += " \(side.rawValue)" }
    head += " \(event.content.kind)"
    if case .failed(let reason) = event.content { head += " \(reason.jsonQuoted)" }
    guard let data = event.content.bytes else { return JournalLine(head: head) }
    head += " \(data.count)"
    if showsHex {
      return JournalLine(head: head + "\n", data: data, encode: Self.appendHex, tail: "")
    }
    guard UTF8Validator.isValid(data.span) else { return JournalLine(head: head) }
    return JournalLine(
      head: head + " \"", data: data, encode: { piece, _, text in text.append(jsonEscaped: piece) }, tail: "\"\n")
  }

  /// As `hexdump -C` does: 16 bytes a line, with their offset, in hexadecimal and as ASCII.
  private static func appendHex(_ bytes: Bytes, _ offset: Int, into text: inout BytesBuilder) {
    var rest = bytes
    var offset = offset
    while !rest.isEmpty {
      let row = rest.prefix(16)
      rest = rest.dropFirst(16)
      let position = String(offset, radix: 16)
      text.append("  " + String(repeating: "0", count: max(8 - position.utf8.count, 0)) + position + " ")
      for index in 0..<16 {
        text.append(index == 8 ? "  " : " ")
        if index < row.count {
          text.append(hexDigits[Int(row[row.startIndex + index] >> 4)])
          text.append(hexDigits[Int(row[row.startIndex + index] & 15)])
        } else {
          text.append("  ")
        }
      }
      text.append("  |")
      for byte in row { text.append((0x20...0x7E).contains(byte) ? byte : UInt8(ascii: ".")) }
      text.append("|\n")
      offset += row.count
    }
  }
}

extension Duration {
  /// Seconds, with microseconds.
  fileprivate var secondsText: String {
    let microseconds = max(Int(self / .microseconds(1)), 0)
    let fraction = String(microseconds % 1_000_000)
    return "\(microseconds / 1_000_000)." + String(repeating: "0", count: 6 - fraction.utf8.count) + fraction
  }
}
