import Logging
import Sluice
import SluiceTestSupport
import Testing

@Suite("A WebSocket that nobody reads", .timeLimit(.minutes(2)))
struct ReadAheadTests {
  @Test("a connection that is only written to answers pings, and heeds the peer's Close")
  func writtenOnly() async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      try await server.send("tick")
      try await near.write(frame(0x89, "are you there"))
      #expect(try await read(6, from: near) == [0x81, 4, 0x74, 0x69, 0x63, 0x6B])
      #expect(try await read(15, from: near) == Bytes([0x8A, 13] + Array("are you there".utf8)))
      try await near.write(frame(0x88, [0x03, 0xE8]))
      #expect(try await read(4, from: near) == [0x88, 2, 0x03, 0xE8])
      await expectClosed(.normal) { try await server.send("late") }
      #expect(try await server.read() == nil)
    }
  }

  @Test("a slow handler's answer to what came before a Close still leaves, and the answer to the Close behind it")
  func answersBeforeClose() async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) {
        for try await message in server {
          try await loop.sleep(for: .seconds(3))
          try await server.send(message)
        }
      }
      try await near.write(frame(0x81, "one"))
      try await near.write(frame(0x81, "two"))
      try await near.write(frame(0x88, [0x03, 0xE8]))
      let all: Bytes = [0x81, 3, 0x6F, 0x6E, 0x65, 0x81, 3, 0x74, 0x77, 0x6F, 0x88, 2, 0x03, 0xE8]
      #expect(try await read(all.count, from: near) == all)
      try await near.close()
      try await serving.value
      try await expectNoTimers(on: loop)
    }
  }

  @Test("what came before a breach of the protocol is answered before it, by a reader that comes late too")
  func answersBeforeFailure() async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      try await near.write(frame(0x81, "one"))
      // RSV1, and no extension.
      try await near.write(frame(0xC1, "two"))
      try await loop.sleep(for: .seconds(3))
      let serving = Task(executorPreference: loop) { try await server.pipe(server) }
      let all: Bytes = [0x81, 3, 0x6F, 0x6E, 0x65, 0x88, 2, 0x03, 0xEA]
      #expect(try await read(all.count, from: near) == all)
      await #expect(throws: WebSocketError.self) { try await serving.value }
      try await near.close()
      try await expectNoTimers(on: loop)
    }
  }

  @Test("a Close behind what nobody reads any more waits for half of the close timeout, and no longer")
  func closeBehindUnread() async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await openWithUnread(near, far)
      try await loop.sleep(for: .seconds(4))
      try await server.send("tick")
      #expect(try await read(6, from: near) == [0x81, 4, 0x74, 0x69, 0x63, 0x6B])
      try await loop.sleep(for: .seconds(2))
      await expectClosed(.normal) { try await server.send("late") }
      #expect(try await read(4, from: near) == [0x88, 2, 0x03, 0xE8])
      try await near.close()
      // What was not read is still there.
      #expect(try await server.read()?.text == "unread")
      #expect(try await server.read() == nil)
      try await expectNoTimers(on: loop)
    }
  }

  @Test(
    "a Close that waits goes when nobody is to read any more, and when the connection is cut", arguments: [true, false])
  func closeDropped(isCut: Bool) async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await openWithUnread(near, far)
      try await loop.sleep(for: .seconds(1))
      if isCut {
        server.abort(StreamError.aborted)
        await #expect(throws: ConnectionReset.self) { try await near.read() }
      } else {
        server.cancel()
        #expect(try await read(4, from: near) == [0x88, 2, 0x03, 0xE8])
        try await near.close()
      }
      try await loop.sleep(for: .seconds(10))
      #expect(server.readyState == .closed)
      try await expectNoTimers(on: loop)
    }
  }

  @Test("what came behind the handshake is heeded too")
  func behindHandshake() async throws {
    try await SimulatedWire.run { near, far, loop in
      async let accepted = WebSocket.accept(over: far)
      try await near.write(SimulatedWire.request.followed(by: frame(0x89, "early")))
      let server = try await accepted
      _ = try await SimulatedWire.readHead(near)
      #expect(try await read(7, from: near) == Bytes([0x8A, 5] + Array("early".utf8)))
      _ = server
    }
  }

  @Test("frames that come before the handshake is answered are kept, in whatever pieces", arguments: [1, 3, 100, .max])
  func beforeAnswer(pieceSize: Int) async throws {
    try await SimulatedWire.run(pieceSize: pieceSize) { near, far, loop in
      try await near.write(SimulatedWire.request)
      for number in 0..<5 { try await near.write(frame(0x81, Bytes("early \(number)"))) }
      try await loop.sleep(for: .seconds(1))
      let server = try await WebSocket.accept(over: far)
      for number in 0..<5 { #expect(try await server.read()?.text == "early \(number)") }
    }
  }

  @Test("no more is read ahead than the watermark says; the peer waits, and all of it is there for a late reader")
  func bounded() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let sending = Task(executorPreference: loop) {
        for number in 0..<3000 {
          try await near.write(frame(0x82, Bytes([UInt8](repeating: UInt8(number % 251), count: 100))))
        }
        try await loop.sleep(for: .zero)
        return loop.now
      }
      try await loop.sleep(for: .seconds(5))
      for number in 0..<3000 {
        #expect(try await server.read()?.bytes == Bytes([UInt8](repeating: UInt8(number % 251), count: 100)))
      }
      // It was held until the reader came.
      #expect(try await sending.value >= .seconds(5))
    }
  }

  @Test("a ping that waits while parts are read takes nothing from them", arguments: [1, 700, 65_000])
  func pingAmongFragments(pieceSize: Int) async throws {
    try await SimulatedWire.run(pieceSize: pieceSize, delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let ping = Task(executorPreference: loop) { try await server.ping() }
      let payload = Bytes((0..<(pieceSize == 1 ? 2000 : 200_000)).map { UInt8(truncatingIfNeeded: $0 &* 7) })
      let sending = Task(executorPreference: loop) { try await near.write(frame(0x82, payload)) }
      var received = BytesBuilder()
      for try await part in server.parts {
        received.append(part.bytes)
        // A slow reader, whose parts are read ahead meanwhile.
        try await loop.sleep(for: .milliseconds(3))
        if part.isFinal { break }
      }
      #expect(received.take() == payload)
      try await sending.value
      ping.cancel()
      _ = await ping.result
    }
  }

  @Test("a message that was read ahead in parts is put together for a reader of messages")
  func partsToMessage() async throws {
    try await SimulatedWire.run(pieceSize: 500, delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      try await near.write(frame(0x01, "first "))
      try await near.write(frame(0x89, "ping"))
      try await near.write(frame(0x00, Bytes([UInt8](repeating: 0x61, count: 3000))))
      try await near.write(frame(0x80, " last"))
      try await near.write(frame(0x81, "next"))
      try await loop.sleep(for: .seconds(1))
      #expect(try await server.read()?.text == "first " + String(repeating: "a", count: 3000) + " last")
      #expect(try await server.read()?.text == "next")
    }
  }

  @Test("a message too big that was read ahead fails the connection with 1009 when it is read")
  func tooBigAhead() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.maxMessageSize = 1000
    try await SimulatedWire.run { [options] near, far, loop in
      let server = try await SimulatedWire.open(near, far, options: options)
      try await near.write(frame(0x01, Bytes([UInt8](repeating: 0x61, count: 900))))
      try await near.write(frame(0x80, Bytes([UInt8](repeating: 0x61, count: 900))))
      try await loop.sleep(for: .seconds(1))
      await #expect(throws: WebSocketError.self) { try await server.read() }
      #expect(try await read(4, from: near) == [0x88, 2, 0x03, 0xF1])
    }
  }
}

@Suite("What a WebSocket owes its peer", .timeLimit(.minutes(2)))
struct PromptnessTests {
  @Test("of many pings in one read, the last is answered")
  func lastPing() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) { try await server.pipe(server) }
      var pings = BytesBuilder()
      for number in 0..<600 { pings.append(frame(0x89, Bytes(String(number) + String(repeating: "x", count: 100)))) }
      let all = pings.take()
      let sending = Task(executorPreference: loop) { try await near.write(all) }
      var answers = ""
      while !answers.contains("599x"), let chunk = try await near.read() { answers += chunk.string }
      try await sending.value
      serving.cancel()
    }
  }

  @Test("a large message is echoed though the next one has only begun", arguments: [16 << 10, 20_000, 100_000])
  func largeThenBegun(size: Int) async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) { try await server.pipe(server) }
      let sending = Task(executorPreference: loop) {
        try await near.write(frame(0x82, Bytes([UInt8](repeating: 5, count: size))).followed(by: [0x82]))
      }
      let header = size < 65536 ? 4 : 10
      #expect(try await read(header + size, from: near).count >= header + size)
      try await sending.value
      serving.cancel()
    }
  }

  @Test("a peer that has closed and takes nothing more is cut at the close timeout")
  func deafAfterClose() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) { try await server.pipe(server) }
      far.stall(true)
      try await near.write(frame(0x82, Bytes([UInt8](repeating: 5, count: 1000))))
      try await near.write(frame(0x88, [0x03, 0xE8]))
      try await near.close()
      try await loop.sleep(for: .seconds(9))
      #expect(try await isOpen(near))
      try await loop.sleep(for: .seconds(2))
      await #expect(throws: ConnectionReset.self) { while try await near.read() != nil {} }
      _ = await serving.result
      #expect(server.readyState == .closed)
      try await expectNoTimers(on: loop)
    }
  }

  /// Nothing has come, and no end.
  private func isOpen(_ stream: SimulatedStream) async throws -> Bool {
    if case .pending = try stream.poll() { true } else { false }
  }

  @Test("a handler that is cancelled closes with 1001")
  func cancelledHandler() async throws {
    try await SimulatedWire.run { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) {
        await server.serve(logger: Logger(label: "test")) { ws in for try await _ in ws {} }
      }
      try await loop.sleep(for: .seconds(1))
      serving.cancel()
      #expect(try await read(4, from: near) == [0x88, 2, 0x03, 0xE9])
      try await near.write(frame(0x88, [0x03, 0xE9]))
      try await near.close()
      await serving.value
    }
  }

  @Test("a message waits for the one that is being sent in parts")
  func betweenFragments() async throws {
    try await SimulatedConnection.run { ends, loop in
      let parts = ends.client.parts
      try await parts.write(MessagePart(kind: .text, bytes: "one ", isFinal: false))
      let sending = Task(executorPreference: loop) { try await ends.client.send("three") }
      try await loop.sleep(for: .seconds(1))
      #expect(throws: WebSocketError.self) { try ends.client.push("now") }
      try await parts.write(MessagePart(kind: .text, bytes: "two", isFinal: true))
      try await sending.value
      #expect(try await ends.server.read()?.text == "one two")
      #expect(try await ends.server.read()?.text == "three")
    }
  }

  @Test("parts of a text that is none are refused, and nothing of them is sent")
  func invalidFragments() async throws {
    try await SimulatedConnection.run { ends, loop in
      let parts = ends.client.parts
      try await parts.write(MessagePart(kind: .text, bytes: [0xE2, 0x82], isFinal: false))
      await #expect(throws: WebSocketError.self) {
        try await parts.write(MessagePart(kind: .text, bytes: [0x20], isFinal: false))
      }
      try await parts.write(MessagePart(kind: .text, bytes: [0xAC], isFinal: true))
      #expect(try await ends.server.read()?.text == "€")
    }
  }

  @Test("cancelling the reading ends a read that waits")
  func cancelledReading() async throws {
    try await SimulatedConnection.run { ends, loop in
      let reading = Task(executorPreference: loop) { try await ends.server.read() }
      try await loop.sleep(for: .seconds(1))
      ends.server.cancel()
      let message = try await reading.value
      #expect(message == nil)
    }
  }
}

/// A server's WebSocket that has been read once; a message and a Close have come since.
private func openWithUnread(_ near: SimulatedStream, _ far: SimulatedStream) async throws -> WebSocket {
  let server = try await SimulatedWire.open(near, far)
  try await near.write(frame(0x81, "subscribe"))
  #expect(try await server.read()?.text == "subscribe")
  try await near.write(frame(0x81, "unread"))
  try await near.write(frame(0x88, [0x03, 0xE8]))
  return server
}

private func expectNoTimers(on loop: SimulatedLoop) async throws {
  try await loop.sleep(for: .milliseconds(10))
  #expect(loop.openTimers == 0)
}

/// Reads until there are so many bytes.
private func read(_ count: Int, from stream: SimulatedStream) async throws -> Bytes {
  var builder = BytesBuilder()
  while builder.count < count, let chunk = try await stream.read() { builder.append(chunk) }
  return builder.take()
}

/// A sender whose peer has closed is told with what.
func expectClosed(_ code: CloseCode, _ body: () async throws -> Void) async {
  do {
    try await body()
    Issue.record("it was sent")
  } catch WebSocketError.closed(let theirs, _) {
    #expect(theirs == code)
  } catch {
    Issue.record("\(error)")
  }
}
