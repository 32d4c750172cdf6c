import SluiceStreams
import Synchronization

/// What is appended to a topic: bytes, and what they are.
public struct TopicContent: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// UTF-8: a text message of a WebSocket, the data of an event.
    case text
    case binary
  }
  public var kind: Kind
  public var bytes: Bytes
  /// The type that it has as an event of an event stream; nil is the ordinary one.
  public var event: String?

  public init(_ text: String, event: String? = nil) {
    kind = .text
    bytes = Bytes(text)
    self.event = event
  }

  public init(kind: Kind, bytes: Bytes, event: String? = nil) {
    self.kind = kind
    self.bytes = bytes
    self.event = event
  }

  /// What is not valid UTF-8 becomes U+FFFD.
  public var text: String { bytes.string }
}

extension TopicContent: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
  public init(stringLiteral value: String) { self.init(value) }
}

extension TopicContent: ByteCounted {
  public var byteCount: Int { bytes.count + (event?.utf8.count ?? 0) }
}

/// A message of a topic's log.
///
/// All readers in a process share it: what it looks like as a WebSocket's frame or as an event is made once.
public struct TopicMessage: Sendable {
  /// Behind this message: reading `.after` it goes on with the next.
  public let position: Position
  public let content: TopicContent
  /// When the engine stored it: time since 1970-01-01 UTC, by the engine's clock. It may go back where that does.
  public let time: Duration
  private let forms = SharedForms()

  package init(position: Position, content: TopicContent, time: Duration) {
    self.position = position
    self.content = content
    self.time = time
  }

  public var kind: TopicContent.Kind { content.kind }
  public var bytes: Bytes { content.bytes }
  public var event: String? { content.event }
  /// What is not valid UTF-8 becomes U+FFFD.
  public var text: String { content.text }

  /// The message in the form that connections of one kind share, made when it is asked for first.
  package func shared<Form: Sendable>(_ make: (TopicMessage) throws -> Form) rethrows -> Form {
    if let form = forms.form(Form.self) { return form }
    let form = try make(self)
    forms.add(form)
    return form
  }
}

extension TopicMessage: Hashable {
  public static func == (left: TopicMessage, right: TopicMessage) -> Bool {
    left.position == right.position && left.content == right.content && left.time == right.time
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(position) }
}

extension TopicMessage: ByteCounted {
  public var byteCount: Int { content.byteCount }
}

/// What was made of a message, one value of each type.
private final class SharedForms: Sendable {
  private let forms = Mutex<[any Sendable]>([])

  func form<Form: Sendable>(_ type: Form.Type) -> Form? {
    forms.withLock { forms in
      for form in forms { if let form = form as? Form { return form } }
      return nil
    }
  }

  func add(_ form: some Sendable) { forms.withLock { $0.append(form) } }
}
