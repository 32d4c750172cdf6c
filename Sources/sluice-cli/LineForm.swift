import Sluice
import SluiceStreams
import SluiceWebSocketProtocol

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// How a message stands in a stream of bytes, between what its framing puts around it.
struct LineForm: Sendable {
  enum Content: Sendable {
    /// As it is.
    case plain
    case base64
    /// An object of JSON with its kind.
    case json
  }
  let content: Content
  /// Whether the time stands before it.
  let hasTime: Bool

  var isPlain: Bool {
    if case .plain = content { !hasTime } else { false }
  }

  /// - Parameter time: Since 1970-01-01.
  func text(of message: Message, at time: Duration) -> Message {
    var text = BytesBuilder(capacity: message.bytes.count + 64)
    if hasTime { text.append(time.timeText + " ") }
    switch content {
    case .plain: text.append(message.bytes)
    case .base64: text.append(Base64.encode(message.bytes))
    case .json:
      text.append("{\"time\":\"\(time.timeText)\",\"kind\":")
      if message.kind == .text {
        text.append("\"text\",\"data\":\"")
        text.append(jsonEscaped: message.bytes)
      } else {
        text.append("\"binary\",\"base64\":\"")
        text.append(Base64.encode(message.bytes))
      }
      text.append("\"}")
    }
    return Message(kind: message.kind, bytes: text.take())
  }

  /// The message that a line stands for.
  /// - Throws: `LineFormError`.
  func message(of line: Message) throws(LineFormError) -> Message {
    switch content {
    case .plain: return line
    case .base64:
      guard let bytes = Base64.decode(line.bytes) else { throw LineFormError(what: "is no Base64") }
      return Message(kind: .binary, bytes: Bytes(bytes))
    case .json:
      guard let object = try? JSONDecoder().decode(MessageObject.self, from: Data(line.bytes)) else {
        throw LineFormError(what: "is no object of JSON")
      }
      switch (object.kind ?? (object.base64 == nil ? "text" : "binary"), object.data, object.base64) {
      case ("text", let text?, nil): return Message(kind: .text, bytes: Bytes(text))
      case ("binary", nil, let text?):
        guard let bytes = Base64.decode(Bytes(text)) else { throw LineFormError(what: "has a base64 that is none") }
        return Message(kind: .binary, bytes: Bytes(bytes))
      case ("binary", let text?, nil): return Message(kind: .binary, bytes: Bytes(text))
      default:
        throw LineFormError(what: "is not {\"kind\":\"text\",\"data\":…} or {\"kind\":\"binary\",\"base64\":…}")
      }
    }
  }
}

/// A message as a line of JSON. Its time, and other members, are for readers.
private struct MessageObject: Decodable {
  let kind: String?
  let data: String?
  let base64: String?
}

/// A line of the input that stands for no message.
struct LineFormError: Error, CustomStringConvertible {
  let what: String

  var description: String { "a line of the input \(what)" }
}

struct LineForming: Transform {
  private let form: LineForm

  init(_ form: LineForm) { self.form = form }

  func transform(_ input: consuming Message, into output: inout TransformOutput<Message>) {
    output.append(form.text(of: input, at: .sinceEpoch))
  }
}
