import SluiceEventSource
import SluiceHTTP
import SluiceStreams
import SluiceTopics
import SluiceWebSocket
import SluiceWebSocketProtocol

extension Message {
  /// A topic's message for a WebSocket. Text that is not valid UTF-8, which other programs may have stored, becomes binary.
  public init(_ message: TopicMessage) {
    guard message.kind == .text, let text = try? Message.text(message.bytes) else {
      self = .binary(message.bytes)
      return
    }
    self = text
  }
}

extension TopicContent {
  /// A WebSocket's message to be appended.
  public init(_ message: Message) {
    self.init(kind: message.isText ? .text : .binary, bytes: message.bytes)
  }
}

extension ServerSentEvent {
  /// A topic's message for an event stream, with its position as the id. Binary data becomes Base64.
  public init(_ message: TopicMessage) {
    let data = message.kind == .text ? message.text : Base64.encode(message.bytes)
    self.init(data, event: message.event, id: message.position.description)
  }
}

extension EventStreamConnection {
  /// Where the client's reading of a topic ended, as it says by Last-Event-ID, or, at its first request of a page's, by `?lastEventId=`; nil if it does
  /// not say so, or says what no topic has given.
  ///
  /// ```swift
  /// try await topic.messages(from: events.resumePosition ?? .now).pipe(events)
  /// ```
  public var resumePosition: TopicBeginning? {
    if let position = lastEventID.flatMap({ Position($0) }) { return .after(position) }
    return TopicBeginning(query: query)
  }
}

extension WebSocket {
  /// Where the client's reading of a topic ended, as it says by `?lastEventId=`; nil if it does not say so, or says what no topic has given.
  public var resumePosition: TopicBeginning? { TopicBeginning(query: query) }
}

extension TopicBeginning {
  init?(query: String?) {
    guard let query else { return nil }
    let name = "lastEventId="
    // A position needs no percent-encoding, so that one that has it is none.
    let field = query.utf8.split(separator: UInt8(ascii: "&")).first { $0.starts(with: name.utf8) }
    guard let field, let position = Position(String(decoding: field.dropFirst(name.utf8.count), as: UTF8.self)) else {
      return nil
    }
    self = .after(position)
  }
}
