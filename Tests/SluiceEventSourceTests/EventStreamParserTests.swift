import SluiceEventSource
import SluiceStreams
import Testing

@Suite("Event streams (HTML standard §9.2)")
struct EventStreamParserTests {
  private func parse(_ bytes: Bytes, size: Int = .max, limits: EventStreamLimits = EventStreamLimits()) throws -> (
    events: [ServerSentEvent], parser: EventStreamParser
  ) {
    var parser = EventStreamParser(limits: limits)
    var output = TransformOutput<ServerSentEvent>()
    var rest = bytes
    while !rest.isEmpty {
      try parser.transform(rest.prefix(size), into: &output)
      rest = rest.dropFirst(size)
    }
    try parser.finish(into: &output)
    var events: [ServerSentEvent] = []
    while let event = output.popFirst() { events.append(event) }
    return (events, parser)
  }

  typealias Case = (stream: String, events: [ServerSentEvent])
  private static let cases: [Case] = [
    ("", []),
    ("data: a\n\n", [.init("a")]),
    ("data:a\n\ndata:  b\n\n", [.init("a"), .init(" b")]),
    ("data: a\rdata: b\r\ndata: c\n\r\n", [.init("a\nb\nc")]),
    ("data: a\r\rdata: b\r\n\r\ndata: c\n\n", [.init("a"), .init("b"), .init("c")]),
    // A field without a colon is empty; data that is empty is data.
    ("data\n\n", [.init("")]), ("data\ndata\n\n", [.init("\n")]), ("data:\n\n", [.init("")]),
    // Without data there is no event, and its type does not stay.
    ("event: x\n\ndata: a\n\n", [.init("a")]),
    ("event: x\ndata: a\n\ndata: b\n\n", [.init("a", event: "x"), .init("b")]),
    ("event: x\nevent:\ndata: a\n\n", [.init("a")]),
    // What is not ended is no event.
    ("data: a\n", []), ("data: a", []), ("data: a\n\ndata: b\n", [.init("a")]),
    // Comments and unknown fields say nothing.
    (": c\n\n:\n:data: x\ndata: a\nDATA: b\n data: c\nfoo: d\n\n", [.init("a")]),
    // An id stays until another one; an empty one takes it back; one with NUL says nothing.
    ("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [.init("a", id: "1"), .init("b", id: "1"), .init("c", id: "")]),
    ("id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n", [.init("a", id: "1"), .init("b", id: "1")]),
    ("id: 1\n\ndata: a\n\n", [.init("a", id: "1")]),
    // The byte order mark, once.
    ("\u{FEFF}data: a\n\n", [.init("a")]), ("\u{FEFF}\u{FEFF}data: a\n\ndata: b\n\n", [.init("b")]),
    ("data: \u{FEFF}a\n\n", [.init("\u{FEFF}a")]),
    ("data: grüße 🎈\u{2028}x\u{85}\u{0B}y\n\n", [.init("grüße 🎈\u{2028}x\u{85}\u{0B}y")]),
    ("data: a\0b\n\n", [.init("a\0b")]), ("data:a:b: c\n\n", [.init("a:b: c")]),
    ("\n\n\ndata: a\n\n\n\n", [.init("a")]),
    // Names that only look like one that is known.
    ("\0data: a\ndat: a\ndata : a\ndataa: b\n id: 1\nretryy: 1\ndata: c\n\n", [.init("c")]),
    ("eventt: x\nevent : x\ni: 1\n\0id: 1\ndata: c\n\n", [.init("c")]),
  ]

  @Test("streams, whole and cut at every byte", arguments: [1, 2, 3, .max])
  func streams(size: Int) throws {
    for (stream, events) in Self.cases {
      #expect(try parse(Bytes(stream), size: size).events == events, "\(stream.debugDescription)")
    }
  }

  @Test("bytes that are no UTF-8 become U+FFFD, and what looks like the mark stays")
  func invalid() throws {
    #expect(try parse([0x64, 0x61, 0x74, 0x61, 0x3A, 0xFF, 0x0A, 0x0A]).events == [.init("\u{FFFD}")])
    #expect(try parse(Bytes([0xEF, 0xBB] + Array("data: a\n\ndata: b\n\n".utf8)), size: 1).events == [.init("b")])
  }

  @Test(
    "attack 45: retry is a number of milliseconds or says nothing",
    arguments: [
      ("1000", Duration.seconds(1)), ("0", .zero), ("007", .milliseconds(7)), ("-1", nil), ("1s", nil), ("+1", nil),
      ("1.5", nil),
      ("", nil), (" 1", nil), ("٣", nil), ("99999999999999999999", nil), ("9223372036854775807", nil),
    ])
  func retry(_ text: String, _ expected: Duration?) throws {
    #expect(try parse(Bytes("retry: \(text)\n")).parser.retry == expected)
  }

  @Test(
    "attack 45: an event stops at its limit, in one line or in many, in whichever of its fields, and whether it ends or not",
    .timeLimit(.minutes(1)), arguments: [1, 7, .max])
  func limits(size: Int) throws {
    let limits = EventStreamLimits(maxEventBytes: 1000)
    let x = { String(repeating: "x", count: $0) }
    for wrong in [
      "data: " + x(1001), "data: \(x(500))\ndata: \(x(500))\n", "id: " + x(1001), "event: " + x(1001),
      "retry: " + x(1001),
      "event: \(x(500))\ndata: \(x(501))", String(repeating: "data\n", count: 1002),
    ] {
      #expect(throws: StreamError.self, "\(wrong.prefix(20))") { try parse(Bytes(wrong), size: size, limits: limits) }
    }
    for right in [
      "data: \(x(1000))\n\n", "data: \(x(500))\ndata: \(x(499))\n\n", "event: \(x(500))\ndata: \(x(500))\n\n",
      // What says nothing has no limit, and needs no memory.
      ": \(x(100_000))\n\(x(100_000)): y\n\(x(100_000))\ndata: a\n\n",
      String(repeating: ": x\n", count: 10_000) + "data\n\n",
    ] {
      #expect(try parse(Bytes(right), size: size, limits: limits).events.count == 1, "\(right.prefix(20))")
    }
  }

  @Test("one line may have all of an event's bytes: 16 MiB")
  func longLine() throws {
    let text = String(repeating: "0123456789abcdef", count: 1 << 20)
    #expect(try parse(Bytes("data: " + text + "\n\n"), size: 1 << 16).events == [.init(text)])
  }

  @Test("events are made as they are wanted, however many a chunk has")
  func onDemand() throws {
    var parser = EventStreamParser()
    var output = TransformOutput<ServerSentEvent>()
    try parser.transform(Bytes(String(repeating: "data\n\n", count: 10_000)), into: &output)
    var count = 0
    while output.popFirst() != nil { count += 1 }
    #expect(output.isPaused && count < 1000)
    try parser.finish(into: &output)
    while output.popFirst() != nil { count += 1 }
    #expect(count == 10_000)
  }

  // MARK: writing

  private func written(_ event: ServerSentEvent) throws -> String {
    var output = BytesBuilder()
    try event.write(to: &output)
    return output.take().string
  }

  @Test("attack 44: whatever is in the data, it arrives as one event", arguments: [1, .max])
  func roundTrip(size: Int) throws {
    let data = [
      "", "a", "a\nb", "a\rb", "a\r\nb", "\n", "\r\n", "\r", "\n\n", "a\n\r\nb\r", ": c", "data: x\n\nevent: y",
      " leading", "\u{FEFF}",
      "\u{2028}\u{2029}\u{85}\u{0B}\u{0C}", "nul\0", "id: 7\nretry: 1",
    ]
    for text in data {
      let event = ServerSentEvent(text, event: "kind of: event", id: "7 x")
      let bytes = Bytes(try written(event) + (try written(ServerSentEvent("behind"))))
      let expected = String(text.unicodeScalars.map { $0 }.reduce(into: "") { $0.unicodeScalars.append($1) })
        .replacingLineEnds()
      let found = try parse(bytes, size: size).events
      #expect(found.count == 2 && found.last?.data == "behind", "\(text.debugDescription)")
      #expect(found.first == ServerSentEvent(expected, event: "kind of: event", id: "7 x"), "\(text.debugDescription)")
    }
  }

  @Test("attack 27, 44: a type or an id that would end its line is refused")
  func fields() throws {
    for wrong in ["a\nb", "a\rb", "a\0b", "\n"] {
      #expect(throws: EventFieldError.invalidEvent) { try written(ServerSentEvent("x", event: wrong)) }
      #expect(throws: EventFieldError.invalidID) { try written(ServerSentEvent("x", id: wrong)) }
    }
    #expect(throws: EventFieldError.self) { try written(ServerSentEvent("x", retry: .seconds(-1))) }
    #expect(try written(ServerSentEvent("x", retry: .milliseconds(1500))) == "retry: 1500\ndata: x\n\n")
    #expect(try parse(Bytes(written(ServerSentEvent("x", retry: .seconds(1 << 60))))).events.count == 1)
  }
}

extension String {
  /// CR and CRLF as LF.
  fileprivate func replacingLineEnds() -> String {
    var result: [UInt8] = []
    var previous: UInt8 = 0
    for byte in utf8 {
      if byte == 0x0A && previous == 0x0D {
        previous = byte
        continue
      }
      result.append(byte == 0x0D ? 0x0A : byte)
      previous = byte
    }
    return String(decoding: result, as: UTF8.self)
  }
}
