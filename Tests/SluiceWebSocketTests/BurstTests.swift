import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceWebSocketProtocol
import Synchronization
import Testing

@testable import SluiceWebSocket

/// What comes in one read is what comes apart, however it is read.
@Suite("Messages that come together", .timeLimit(.minutes(1)))
struct BurstTests {
  enum Style: CaseIterable {
    case messages, events, batches
  }

  /// Messages of all lengths at which something changes, in one frame or in several, with pings between them.
  private static func burst(longest: Int) -> (wire: Bytes, messages: [Message]) {
    var wire = BytesBuilder()
    var messages: [Message] = []
    let lengths = [0, 1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 125, 126, 127, 300, longest, 16, 2]
    for (number, length) in lengths.enumerated() {
      let text = String(repeating: "añ€😀z", count: length / 5 + 1).unicodeScalars.reduce(into: "") { text, scalar in
        if text.utf8.count + String(scalar).utf8.count <= length { text.unicodeScalars.append(scalar) }
      }
      let binary = Bytes((0..<length).map { UInt8(truncatingIfNeeded: $0 * 7 + number) })
      wire.append(frame(0x81, Bytes(text)))
      messages.append(Message(text))
      wire.append(frame(0x82, binary))
      messages.append(.binary(binary))
      if number % 4 == 1 { wire.append(frame(0x89, Bytes("ping \(number)"))) }
      if number % 5 == 2 {
        wire.append(frame(0x02, binary))
        wire.append(frame(0x89, "inside"))
        wire.append(frame(0x80, binary))
        messages.append(.binary(binary.followed(by: binary)))
      }
    }
    return (wire.take(), messages)
  }

  /// Echoes with a server in some style, and gives all that the client gets until the end of the connection.
  private static func echo(_ style: Style, _ wire: Bytes, _ near: SimulatedStream, _ far: SimulatedStream) async throws
    -> Bytes
  {
    let ws = try await SimulatedWire.open(near, far)
    switch style {
    case .events:
      let callbacks = WebSocketCallbacks(ws)
      callbacks.onMessage { callbacks.trySend($0) }
    case .messages: Task(executorPreference: near.loop) { for try await message in ws { try await ws.send(message) } }
    case .batches:
      Task(executorPreference: near.loop) { for try await batch in ws.batches { try await ws.send(contentsOf: batch) } }
    }
    try await near.write(wire)
    try await near.write(frame(0x88, [0x03, 0xE8]))
    var received = BytesBuilder()
    while let chunk = try await near.read() { received.append(chunk) }
    return received.take()
  }

  /// The messages in frames of a server, and the pongs.
  private static func decode(_ wire: Bytes) throws -> (messages: [Message], pongs: [String]) {
    var decoder = FrameDecoder(role: .client)
    var assembler = MessageAssembler()
    var (messages, pongs): ([Message], [String]) = ([], [])
    var input = wire
    while let event = try decoder.next(in: &input) {
      switch event {
      case .data(let piece): if let message = try assembler.append(piece) { messages.append(message) }
      case .pong(let payload): pongs.append(payload.string)
      case .ping, .close: break
      }
    }
    return (messages, pongs)
  }

  @Test(
    "are echoed as they are, in their order, whatever pieces they come in", arguments: Style.allCases,
    [Int.max, 1000, 7])
  func pieces(style: Style, pieceSize: Int) async throws {
    // What there is no room for, `trySend` refuses.
    let (wire, messages) = Self.burst(longest: style == .events ? 700 : 17_000)
    try await SimulatedWire.run(pieceSize: pieceSize) { near, far, loop in
      let (echoed, pongs) = try Self.decode(try await Self.echo(style, wire, near, far))
      #expect(echoed == messages)
      #expect(pongs == ["ping 1", "inside", "ping 5", "inside", "ping 9", "inside", "ping 13", "ping 17", "inside"])
    }
  }

  @Test("are given before the one that is not UTF-8, which closes with 1007", arguments: Style.allCases, [Int.max, 3])
  func wrongText(style: Style, pieceSize: Int) async throws {
    var wire = BytesBuilder()
    for number in 0..<5 { wire.append(frame(0x81, Bytes("message \(number)"))) }
    // Truncated, not wrong: the failure is the same by either way.
    wire.append(frame(0x81, [0x61, 0xE2, 0x82]))
    wire.append(frame(0x81, "never"))
    let bytes = wire.take()
    try await SimulatedWire.run(pieceSize: pieceSize) { near, far, loop in
      let received = try await Self.echo(style, bytes, near, far)
      let (echoed, _) = try Self.decode(received)
      #expect(echoed.map(\.text) == (0..<5).map { "message \($0)" })
      #expect(Array(received.suffix(4)) == [0x88, 0x02, 0x03, 0xEF])
    }
  }

  @Test("go to the handler that is set when they are given")
  func handlerChanges() async throws {
    var wire = BytesBuilder()
    for number in 0..<6 { wire.append(frame(0x81, Bytes("\(number)"))) }
    let bytes = wire.take()
    try await SimulatedWire.run { near, far, loop in
      let given = Mutex<[String]>([])
      let ws = try await SimulatedWire.open(near, far)
      let callbacks = WebSocketCallbacks(ws)
      callbacks.onMessage { first in
        given.withLock { $0.append("first: \(first.text)") }
        if first.text == "2" {
          callbacks.onMessage { second in given.withLock { $0.append("second: \(second.text)") } }
        }
      }
      try await near.write(bytes)
      try await loop.sleep(for: .seconds(1))
      #expect(given.withLock { $0 } == ["first: 0", "first: 1", "first: 2", "second: 3", "second: 4", "second: 5"])
      ws.abort()
    }
  }

  @Test("are kept by a handler as they were")
  func kept() async throws {
    var wire = BytesBuilder()
    for number in 0..<40 { wire.append(frame(0x81, Bytes("number \(number)"))) }
    let bytes = wire.take()
    try await SimulatedWire.run { near, far, loop in
      let kept = Mutex<[Message]>([])
      let ws = try await SimulatedWire.open(near, far)
      WebSocketCallbacks(ws).onMessage { message in kept.withLock { $0.append(message) } }
      try await near.write(bytes)
      try await near.write(bytes)
      try await loop.sleep(for: .seconds(1))
      #expect(kept.withLock { $0 }.map(\.text) == (0..<80).map { "number \($0 % 40)" })
      ws.abort()
    }
  }

  @Test("are refused, and told of room, when their echoes fill the buffers")
  func noRoom() async throws {
    let payload = String(repeating: "x", count: 60)
    var wire = BytesBuilder()
    for _ in 0..<3000 { wire.append(frame(0x81, Bytes(payload))) }
    let bytes = wire.take()
    try await SimulatedWire.run { near, far, loop in
      let refused = Mutex(0)
      let drains = Mutex(0)
      let ws = try await SimulatedWire.open(near, far)
      let callbacks = WebSocketCallbacks(ws)
      callbacks.onDrain { drains.withLock { $0 += 1 } }
      callbacks.onMessage { message in if !callbacks.trySend(message) { refused.withLock { $0 += 1 } } }
      try await near.write(bytes)
      try await near.write(frame(0x88, [0x03, 0xE8]))
      var received = BytesBuilder()
      while let chunk = try await near.read() { received.append(chunk) }
      let echoed = try Self.decode(received.take()).messages
      #expect(echoed.count + refused.withLock { $0 } == 3000)
      #expect(echoed.allSatisfy { $0.text == payload })
      #expect(refused.withLock { $0 } == 0 || drains.withLock { $0 } > 0)
    }
  }

  @Test("are one batch if they come with one read, up to what is no whole message")
  func batches() async throws {
    var wire = BytesBuilder()
    for number in 0..<10 { wire.append(frame(0x81, Bytes("\(number)"))) }
    wire.append(frame(0x01, "in two"))
    wire.append(frame(0x80, " parts"))
    wire.append(frame(0x82, Bytes(repeatElement(7, count: 300))))
    wire.append(frame(0x82, []))
    let bytes = wire.take()
    try await SimulatedWire.run { near, far, loop in
      let ws = try await SimulatedWire.open(near, far)
      let batches = Mutex<[[Message]]>([])
      let reading = Task(executorPreference: loop) {
        for try await batch in ws.batches { batches.withLock { $0.append(Array(batch)) } }
      }
      try await near.write(bytes)
      try await near.write(frame(0x88, [0x03, 0xE8]))
      try await reading.value
      #expect(
        batches.withLock { $0 } == [
          (0..<10).map { Message("\($0)") }, ["in two parts"],
          [.binary(Bytes(repeatElement(7, count: 300))), .binary([])],
        ])
    }
  }

  @Test("of a batch may be sent to another connection, whichever end of it this is")
  func batchesElsewhere() async throws {
    try await SimulatedConnection.run { ends, loop in
      try await ends.client.send("from the client")
      let batch = try #require(try await ends.server.batches.read())
      try await ends.server.send(contentsOf: batch)
      try await ends.server.send(contentsOf: ["one", "two"])
      for text in ["from the client", "one", "two"] { #expect(try await ends.client.read()?.text == text) }
      // Masked anew.
      try await ends.client.send(contentsOf: batch)
      #expect(try await ends.server.read()?.text == "from the client")
      ends.client.abort()
    }
  }

  @Test("a batch waits for room behind what was sent before it")
  func batchesWait() async throws {
    var wire = BytesBuilder()
    for number in 0..<2000 { wire.append(frame(0x81, Bytes("\(number) " + String(repeating: "y", count: 50)))) }
    let bytes = wire.take()
    try await SimulatedWire.run { near, far, loop in
      let received = try await Self.echo(.batches, bytes, near, far)
      let numbers = try Self.decode(received).messages.map { Int($0.text.prefix { $0 != " " }) }
      #expect(numbers == Array(0..<2000))
    }
  }
}
