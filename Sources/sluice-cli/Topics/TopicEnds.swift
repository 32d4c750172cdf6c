import Sluice
import SluiceHTTP
import SluiceStreams
import SluiceTopics
import SluiceTopicsConnections

/// The messages of a topic, or those of one event type.
struct TopicSource: ReadableStream {
  let reader: TopicReader
  /// Where it ends; nil: not by itself.
  let last: Position?
  let event: String?

  func read() async throws -> TopicMessage? {
    while true {
      // Numbers grow from one life of a log to the next, too.
      if let last, reader.position.offset >= last.offset {
        reader.cancel(nil)
        return nil
      }
      guard let message = try await reader.read() else { return nil }
      if event == nil || (message.event ?? "message") == event { return message }
    }
  }

  func cancel(_ reason: (any Error)?) { reader.cancel(reason) }
}

/// Appends each message to a topic.
struct TopicSink: WritableStream {
  let writer: TopicWriter
  let event: String?

  nonisolated(nonsending) func write(_ message: Message) async throws {
    var content = TopicContent(message)
    content.event = event
    try await writer.write(content)
  }

  func close() async throws { try await writer.close() }
  func abort(_ reason: any Error) { writer.abort(reason) }
}

extension TopicMessage {
  /// As an object on one line. Binary data is Base64, and said to be binary.
  var json: String {
    let data = kind == .text ? text.jsonQuoted : "\"\(Base64.encode(bytes))\",\"binary\":true"
    return
      "{\"position\":\"\(position)\",\"time\":\"\(timeText)\",\"event\":\((event ?? "message").jsonQuoted),\"data\":\(data)}"
  }

  var timeText: String { time.timeText }
}

extension Duration {
  /// A time since 1970-01-01 as RFC 3339 writes it, in UTC, with milliseconds.
  var timeText: String {
    // An engine's clock can be anything: this is until the year 9999.
    let (seconds, attoseconds) = components
    let milliseconds =
      Int(min(max(seconds, 0), 253_402_300_799)) * 1000 + Int(max(attoseconds, 0) / 1_000_000_000_000_000)
    let (days, ofDay) = (milliseconds / 86_400_000, milliseconds % 86_400_000)
    let (year, month, day) = HTTPDate.date(daysSince1970: days)
    func digits(_ number: Int, _ count: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(count - text.utf8.count, 0)) + text
    }
    return "\(digits(year, 4))-\(digits(month + 1, 2))-\(digits(day, 2))"
      + "T\(digits(ofDay / 3_600_000, 2)):\(digits(ofDay / 60_000 % 60, 2)):\(digits(ofDay / 1000 % 60, 2)).\(digits(ofDay % 1000, 3))Z"
  }
}
