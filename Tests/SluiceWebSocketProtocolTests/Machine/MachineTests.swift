import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("The protocol's machine")
struct MachineTests {
  private static func server(_ coding: WebSocketMachine.Coding = .plain, _ version: WebSocketVersion = .hybi13)
    -> WebSocketMachine
  {
    WebSocketMachine(.server, version: version, coding: coding, keys: nil, maxMessageSize: 100)
  }

  /// What a peer's bytes are answered with by a machine that answers all that it may.
  private static func answer(_ bytes: [UInt8], _ machine: inout WebSocketMachine) -> [UInt8] {
    var input = Bytes(bytes)
    var output = BytesBuilder()
    do {
      while let event = try machine.nextEvent(in: &input) {
        switch event {
        case .data(let message): _ = try machine.send(message, to: &output)
        case .ping(let payload): try machine.send(.pong, payload, to: &output)
        case .pong: break
        case .close(let code, let reason): machine.receiveClose(code, reason, to: &output)
        }
      }
    } catch let error as WebSocketProtocolError {
      machine.fail(.protocolViolation(error), error.closeCode, to: &output)
    } catch {
      Issue.record("\(error)")
    }
    return Array(output.take())
  }

  @Test("messages and pings are answered, and a Close ends it", arguments: [Int.max, 1, 2, 7])
  func conversation(size: Int) {
    var machine = Self.server()
    let input =
      frame(0x01, [0x61]) + frame(0x89, [9]) + frame(0x80, [0x62]) + frame(0x82, [1, 2])
      + frame(0x88, closeBody(4000, [0x78])) + frame(0x81, [0x63])
    var output: [UInt8] = []
    for start in stride(from: 0, to: input.count, by: min(size, input.count)) {
      output += Self.answer(Array(input[start...].prefix(size)), &machine)
    }
    #expect(output == hex("8a 01 09 81 02 61 62 82 02 01 02 88 02 0f a0"))
    let close = machine.life.receivedFirst
    #expect(close?.code.rawValue == 4000 && close?.reason == "x")
  }

  @Test(
    "a peer that breaks the protocol is told why, once",
    arguments: [
      (hex("81 00"), 1002), (frame(0x83), 1002), (frame(0x81, [0xFF]), 1007),
      (frame(0x82, [UInt8](repeating: 1, count: 101)), 1009),
    ] as [([UInt8], UInt16)])
  func violation(input: [UInt8], code: UInt16) {
    var machine = Self.server()
    #expect(Self.answer(input + frame(0x89), &machine) == [0x88, 2] + closeBody(code))
    let isOver = !machine.life.isReading
    #expect(isOver)
    #expect(Self.answer(frame(0x89), &machine) == [])
  }

  @Test("after our Close nothing is sent, and the peer's ends it, with whatever code")
  func close() {
    var machine = Self.server()
    var output = BytesBuilder()
    machine.close(.goingAway, "", to: &output)
    machine.close(.normal, "again", to: &output)
    #expect(Array(output.take()) == [0x88, 2] + closeBody(1001))
    #expect(throws: StreamError.closed) { try machine.send(.ping, Bytes(), to: &output) }
    #expect(throws: StreamError.closed) {
      _ = try machine.send(Message(kind: .binary, bytes: []), to: &output)
    }
    let wasOver = !machine.life.isReading
    #expect(!wasOver)
    #expect(Self.answer(frame(0x88, closeBody(1011)), &machine) == [])
    let isOver = !machine.life.isReading
    #expect(isOver)
  }

  @Test("a message in parts: continuations, no other message inside it, its text checked as a whole")
  func parts() throws {
    var machine = Self.server()
    var output = BytesBuilder()
    _ = try machine.send(MessagePart(kind: .text, bytes: [0xC3], isFinal: false), to: &output)
    #expect(throws: WebSocketError.self) {
      _ = try machine.send(Message(kind: .binary, bytes: []), to: &output)
    }
    try machine.send(.ping, [1], to: &output)
    #expect(throws: WebSocketError.self) {
      _ = try machine.send(MessagePart(kind: .text, bytes: [0x61], isFinal: true), to: &output)
    }
    _ = try machine.send(MessagePart(kind: .text, bytes: [0xA9], isFinal: true), to: &output)
    _ = try machine.send(Message(kind: .binary, bytes: [7]), to: &output)
    #expect(Array(output.take()) == hex("01 01 c3 89 01 01 80 01 a9 82 01 07"))
  }

  @Test("a long payload follows its header without a copy, unless it is masked")
  func uncopied() throws {
    let message = Message(kind: .binary, bytes: [1, 2, 3])
    var server = Self.server()
    var client = WebSocketMachine(.client, keys: MaskingKeys())
    var output = BytesBuilder()
    #expect(try server.send(message, to: &output, copyingUpTo: 2) == [1, 2, 3])
    #expect(Array(output.take()) == [0x82, 3])
    #expect(try client.send(message, to: &output, copyingUpTo: 2) == nil)
    #expect(output.take().count == 9)
  }

  @Test("the end of the connection is a loss, but between two messages of hixie-75")
  func endOfStream() {
    var machine = Self.server()
    var output = BytesBuilder()
    machine.receiveEnd(to: &output)
    guard case WebSocketError.connectionLost? = machine.life.readingEnd?.error else {
      return #expect(Bool(false), "no loss")
    }
    var old = Self.server(.hixie(HixieFraming(.hixie75, maxSkippedBytes: 100)), .hixie75)
    #expect(Self.answer([0x00, 0x61, 0xFF], &old) == [0x00, 0x61, 0xFF])
    old.receiveEnd(to: &output)
    let close = old.life.received
    #expect(close?.code == .noStatus)
    let isEmpty = output.isEmpty
    #expect(isEmpty)
    var cut = Self.server(.hixie(HixieFraming(.hixie75, maxSkippedBytes: 100)), .hixie75)
    _ = Self.answer([0x00, 0x61], &cut)
    cut.receiveEnd(to: &output)
    guard case WebSocketError.connectionLost? = cut.life.readingEnd?.error else {
      return #expect(Bool(false), "no loss")
    }
  }

  @Test("the first versions have neither ping nor binary")
  func unsupported() {
    var machine = Self.server(.hixie(HixieFraming(.hixie76, maxSkippedBytes: 100)), .hixie76)
    var output = BytesBuilder()
    #expect(throws: WebSocketError.self) { try machine.send(.ping, Bytes(), to: &output) }
    #expect(throws: WebSocketError.self) {
      _ = try machine.send(Message(kind: .binary, bytes: []), to: &output)
    }
    machine.close(.normal, "", to: &output)
    #expect(Array(output.take()) == [0xFF, 0x00])
  }
}

/// Each row is a time in seconds and what happens then; the machine is asked at each of its deadlines in between.
@Suite("The machine's times")
struct MachineTimesTests {
  enum Step {
    /// Bytes came, and all of them were read.
    case received
    /// Bytes came that nobody reads.
    case unread
    case message
    case close
    case peerCloses
    /// So many bytes are acknowledged by now, and so many wait.
    case progress(delivered: Int, queued: Int)
  }

  private static func run(
    _ limits: ConnectionTimes.Limits, _ steps: [(Int, Step)], until end: Int = 1000, isFlushed: Bool = true
  ) -> [String] {
    var machine = WebSocketMachine(.server, keys: nil)
    machine.keepTimes(limits, from: .zero)
    machine.note(.starved, at: .zero)
    var happened: [String] = []
    var transport = TransportProgress(queued: 0, delivered: 0)
    var output = BytesBuilder()
    var rest = steps[...]
    var now = Duration.zero
    while now <= .seconds(end) {
      let deadline = machine.deadline(at: now, transport)
      if let (time, step) = rest.first, deadline.map({ .seconds(time) < $0 }) ?? true {
        rest = rest.dropFirst()
        now = .seconds(time)
        switch step {
        case .received:
          machine.noteUnread()
          machine.note(.received, at: now)
          machine.note(.starved, at: now)
        case .unread:
          machine.noteUnread()
          machine.note(.received, at: now)
        case .message: machine.note(.data, at: now)
        case .close: machine.close(.normal, "", to: &output)
        case .peerCloses: machine.receiveClose(.normal, "", to: &output)
        case .progress(let delivered, let queued): transport = TransportProgress(queued: queued, delivered: delivered)
        }
        continue
      }
      guard let deadline, deadline <= .seconds(end) else { break }
      now = deadline
      let seconds = now.components.seconds
      while let due = machine.next(dueAt: now, transport) {
        switch due {
        case .ping(let payload):
          happened.append("\(seconds) ping")
          try? machine.send(.ping, payload, to: &output)
          if isFlushed { machine.pingDidLeave() }
        case .idle(let error):
          happened.append("\(seconds) close: \(error)")
          machine.fail(error, .goingAway, to: &output)
        case .silence(let error): return happened + ["\(seconds) cut: \(error)"]
        }
      }
    }
    return happened
  }

  private static let keepalive = ConnectionTimes.Limits(keepalive: (.seconds(20), .seconds(10)))
  private static let silent = "\(WebSocketError.keepaliveTimeout(.seconds(10)))"

  @Test("a silent peer is pinged, and cut if it stays silent")
  func silence() {
    #expect(Self.run(Self.keepalive, []) == ["20 ping", "30 cut: \(Self.silent)"])
  }

  @Test("whatever comes is a sign of life: before the ping, and as its answer")
  func life() {
    #expect(
      Self.run(Self.keepalive, [(15, .received), (45, .received), (52, .received)])
        == ["40 ping", "90 ping", "100 cut: \(Self.silent)"])
  }

  @Test("the time rests while what came is unread, or the ping is still in our queue")
  func rest() {
    #expect(
      Self.run(Self.keepalive, [(5, .unread), (100, .received)], until: 75)
        == ["40 ping"])
    #expect(
      Self.run(
        Self.keepalive, [(5, .progress(delivered: 0, queued: 10)), (35, .progress(delivered: 10, queued: 0))],
        isFlushed: false) == ["20 ping", "50 cut: \(Self.silent)"])
  }

  @Test("without messages a connection is closed with 1001, and then cut if the peer does not answer")
  func idle() {
    let limits = ConnectionTimes.Limits(idle: .seconds(60))
    #expect(
      Self.run(limits, [(30, .message), (40, .received)])
        == [
          "90 close: \(WebSocketError.idle(.seconds(60)))",
          "100 cut: \(WebSocketError.closeTimeout(.seconds(10)))",
        ])
  }

  @Test("after our Close the peer has as long as it takes something, or what came before is read")
  func closing() {
    let limits = ConnectionTimes.Limits(close: .seconds(10))
    let cut = "cut: \(WebSocketError.closeTimeout(.seconds(10)))"
    #expect(Self.run(limits, []) == [])
    #expect(Self.run(limits, [(100, .close)]) == ["110 \(cut)"])
    #expect(
      Self.run(limits, [(100, .close), (104, .progress(delivered: 5, queued: 5)), (112, .message)]) == ["122 \(cut)"])
  }

  @Test("closing ends the pings and the wait for messages")
  func closingEndsTheRest() {
    let limits = ConnectionTimes.Limits(
      keepalive: (.seconds(20), .seconds(10)), idle: .seconds(15), close: .seconds(100))
    #expect(
      Self.run(limits, [(10, .close)]) == ["110 cut: \(WebSocketError.closeTimeout(.seconds(100)))"])
    #expect(
      Self.run(limits, [(10, .peerCloses)]) == ["110 cut: \(WebSocketError.closeTimeout(.seconds(100)))"])
  }
}
