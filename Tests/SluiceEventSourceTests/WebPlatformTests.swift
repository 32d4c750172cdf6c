import SluiceEventSource
import SluiceStreams
import Testing

/// What the format tests of the web platform's `eventsource` folder ask for, under their names: bytes in, events out.
@Suite("Event streams: the web platform's cases")
struct WebPlatformTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let stream: Bytes
    let events: [ServerSentEvent]
    var retry: Duration?

    init(_ name: String, _ stream: Bytes, _ events: [ServerSentEvent], retry: Duration? = nil) {
      self.name = name
      self.stream = stream
      self.events = events
      self.retry = retry
    }

    var testDescription: String { name }
  }

  private static let mark = "\u{FEFF}"

  static let cases: [Case] = [
    Case(
      "event-data", "data:msg\ndata: msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
      [.init("msg\nmsg"), .init(""), .init("end")]),
    Case("format-bom", Bytes(mark + "data:1\n\n" + mark + "data:2\n\ndata:3\n\n"), [.init("1"), .init("3")]),
    Case("format-bom-2", Bytes(mark + mark + "data:1\n\ndata:2\n\ndata:3\n\n"), [.init("2"), .init("3")]),
    Case(
      "format-comments",
      Bytes(
        "data:1\n:\0\n:\r\ndata:2\n:" + String(repeating: "x", count: 2048) + "\rdata:3\n:data:fail\r:\ndata:4\n\n"),
      [.init("1\n2\n3\n4")]),
    Case(
      "format-data-before-final-empty-line", "retry:1000\ndata:test1\n\nid:test\ndata:test2", [.init("test1")],
      retry: .seconds(1)),
    Case("format-field-data", "data:\n\ndata\ndata\n\ndata:test\n\n", [.init(""), .init("\n"), .init("test")]),
    Case("format-field-event", "event:test\ndata:x\n\ndata:x\n\n", [.init("x", event: "test"), .init("x")]),
    Case("format-field-event-empty", "event: \ndata:data\n\n", [.init("data")]),
    Case("format-field-id", "id: \u{2026}\ndata:hello\n\n", [.init("hello", id: "\u{2026}")]),
    Case(
      "format-field-id-2", "id:1\nid:2\ndata:1\n\ndata:2\n\nid\ndata:3\n\ndata:4\n\n",
      [.init("1", id: "2"), .init("2", id: "2"), .init("3", id: ""), .init("4", id: "")]),
    Case(
      "format-field-id-3", "id:1\ndata:1\n\nid\ndata:2\n\nid:3\n\ndata:4\n\n",
      [.init("1", id: "1"), .init("2", id: ""), .init("4", id: "3")]),
    Case(
      "format-field-id-null", "id:ok\ndata:1\n\nid: a\0b\ndata:2\n\nid:\0\ndata:3\n\n",
      [.init("1", id: "ok"), .init("2", id: "ok"), .init("3", id: "ok")]),
    Case(
      "format-field-parsing",
      "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
      [.init("\0\n 2\n1\n3\n\n4")]),
    Case("format-field-retry", "retry:03000\ndata:x\n\n", [.init("x")], retry: .seconds(3)),
    Case("format-field-retry-bogus", "retry:3000\nretry:1000x\ndata:x\n\n", [.init("x")], retry: .seconds(3)),
    Case("format-field-retry-empty", "retry\ndata:test\n\n", [.init("test")]),
    Case(
      "format-field-unknown", "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\n\n",
      [.init("test\n")]),
    Case("format-leading-space", "data:\ttest\rdata: \ndata:test\n\n", [.init("\ttest\n\ntest")]),
    Case("format-newlines", "data:test\r\ndata\ndata:test\r\n\r", [.init("test\n\ntest")]),
    Case("format-null-character", "data:\0\n\n\n\n", [.init("\0")]),
    Case("format-utf-8", Bytes(Array("data:ok".utf8) + [0xE2, 0x80, 0xA6, 0x0A, 0x0A]), [.init("ok\u{2026}")]),
    Case(
      "a bad sequence is replaced", Bytes(Array("data:".utf8) + [0x6F, 0xC3, 0x6B, 0x0A, 0x0A]), [.init("o\u{FFFD}k")]),
  ]

  @Test("whole, and cut at every byte", arguments: cases)
  func format(_ test: Case) throws {
    for cut in 0...test.stream.count {
      var parser = EventStreamParser()
      var output = TransformOutput<ServerSentEvent>()
      try parser.transform(test.stream.prefix(cut), into: &output)
      try parser.transform(test.stream.dropFirst(cut), into: &output)
      try parser.finish(into: &output)
      var events: [ServerSentEvent] = []
      while let event = output.popFirst() { events.append(event) }
      #expect(events == test.events, "cut at \(cut)")
      #expect(parser.retry == test.retry)
    }
  }
}
