import SluiceStreams

/// An event of a server-sent event stream (HTML standard, §9.2).
///
/// ```swift
/// let event = ServerSentEvent("42.7", event: "price", id: "17")
/// ```
public struct ServerSentEvent: Sendable, Hashable {
  /// What the event says. Any mix of CR, LF and CRLF in it arrives as LF.
  public var data: String
  /// Its type; nil is the ordinary one, "message".
  public var event: String?
  /// What a client that comes back names as the last event it has seen. Of a received event, the id in force when it came, its own or an
  /// earlier one's; "" takes back an earlier one.
  public var id: String?
  /// How long a client is to wait before it comes back, in whole milliseconds on the wire. Not part of a received event: see `EventStreamParser.retry`.
  public var retry: Duration?

  public init(_ data: String, event: String? = nil, id: String? = nil, retry: Duration? = nil) {
    self.data = data
    self.event = event
    self.id = id
    self.retry = retry
  }
}

extension ServerSentEvent: ByteCounted {
  public var byteCount: Int { data.utf8.count }
}

/// What can't be part of an event, because it would end a line or the event.
public enum EventFieldError: Error, Hashable, Sendable, CustomStringConvertible {
  /// An event type with CR, LF or NUL.
  case invalidEvent
  /// An id with CR, LF or NUL.
  case invalidID
  /// Less than nothing.
  case invalidRetry(Duration)

  public var description: String {
    switch self {
    case .invalidEvent: "the event type contains a line break or NUL byte"
    case .invalidID: "the event id contains a line break or NUL byte"
    case .invalidRetry(let time): "the retry time \(time) is negative"
    }
  }
}

extension ServerSentEvent {
  /// The event's lines and the empty line that ends it.
  /// - Throws: `EventFieldError`.
  package func write(to output: inout BytesBuilder) throws(EventFieldError) {
    if let event {
      guard Self.isLine(event) else { throw .invalidEvent }
      Self.append("event: ", event, to: &output)
    }
    if let id {
      guard Self.isLine(id) else { throw .invalidID }
      Self.append("id: ", id, to: &output)
    }
    if let retry {
      try Self.append(retry: retry, to: &output)
    }
    var rest = data.utf8[...]
    repeat {
      let line = rest.prefix { $0 != 0x0A && $0 != 0x0D }
      output.append("data: ")
      output.append(contentsOf: line)
      output.append(0x0A)
      rest = rest[line.endIndex...]
      guard let end = rest.popFirst() else { break }
      // CRLF is one line end; a text that ends with one has an empty line behind it.
      if end == 0x0D, rest.first == 0x0A { rest.removeFirst() }
    } while true
    output.append(0x0A)
  }

  /// The line that says how long to wait before coming back.
  static func append(retry: Duration, to output: inout BytesBuilder) throws(EventFieldError) {
    guard retry >= .zero else { throw .invalidRetry(retry) }
    append("retry: ", String(retry.wholeMilliseconds), to: &output)
  }

  private static func append(_ name: StaticString, _ value: String, to output: inout BytesBuilder) {
    output.append(name.description)
    output.append(value)
    output.append(0x0A)
  }

  private static func isLine(_ text: String) -> Bool {
    !text.utf8.contains { $0 == 0x0A || $0 == 0x0D || $0 == 0x00 }
  }
}
