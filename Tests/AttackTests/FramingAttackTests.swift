import Sluice
import Testing

@Suite("Attacks 1-16: framing", .timeLimit(.minutes(5)))
struct FramingAttackTests {
  @Test(
    "attacks 1-8, 10, 14: each frame that breaks the rules gets its close code from the real server",
    arguments: ["pipe", "await"])
  func frames(mode: String) async throws {
    try await AttackedServer.run(mode) { server in
      for attack in FrameAttack.all {
        let attacker = try await server.open()
        try await attacker.send(attack.bytes)
        let answer = await attacker.receiveAll()
        #expect(answer.bytes == attack.answer, "\(attack.testDescription)")
        #expect(answer.end == .closed, "\(attack.testDescription)")
      }
    }
  }

  @Test("attacks 1-8, 10, 14: the same split at each byte, and byte by byte", arguments: FrameAttack.all)
  func split(attack: FrameAttack) async throws {
    try await expectSameHoweverSplit(attack.bytes, gives: attack.answer)
  }

  @Test("attack 2: a frame of 1 GiB is announced, and then silence: no memory is taken for it")
  func announcedFrame() async throws {
    try await AttackedServer.run("pipe", "maxMessageSize=\(2 << 30)") { server in
      try await server.echoes()
      let before = try server.residentMemory()
      var attackers: [Attacker] = []
      for _ in 0..<20 {
        let attacker = try await server.open()
        try await attacker.send(header(0x82, length: 1 << 30) + [UInt8](repeating: 1, count: 1000))
        attackers.append(attacker)
      }
      try await server.echoes()
      #expect(try server.residentMemory() - before < 20 * (64 << 10))
      for attacker in attackers { attacker.socket.abort(CancellationError()) }
    }
  }

  @Test("attack 4: a masked frame from a server fails the client with 1002")
  func maskedByServer() async throws {
    try await withClient(
      of: { try await $0.send(frame(0x81, "masked")) },
      runs: { ws in
        await #expect(throws: WebSocketError.self) { try await ws.read() }
      },
      answers: { frames in
        #expect(frames.prefix(2) == [0x88, 0x82])
        #expect(unmasked(frames) == bigEndian(UInt16(1002)))
      })
  }

  @Test("attack 9: a frame's parts one byte at a time take linear time")
  func oneByteAtATime() async throws {
    try await AttackedServer.run("pipe", "maxMessageSize=\(1 << 30)") { server in
      func time(bytes count: Int) async throws -> Duration {
        let attacker = try await server.open()
        let time = try await server.processorTime {
          try await attacker.send(header(0x82, length: count))
          for _ in 0..<count { try await attacker.send([0]) }
          let echo = try await attacker.receive(count + 4)
          #expect(echo.count == unmaskedFrame(0x82, [UInt8](repeating: 0, count: count)).count)
        }
        attacker.socket.abort(CancellationError())
        return time
      }
      _ = try await time(bytes: 1000)
      expectLinear(
        "one byte at a time", small: try await time(bytes: 5000), fourTimesAsMuch: try await time(bytes: 20_000))
    }
  }

  @Test("attack 11: a million one-byte and a million empty fragments", arguments: [1, 0])
  func fragments(size: Int) async throws {
    let limit = 1_000_000
    try await AttackedServer.run("pipe", "maxFragments=\(limit)") { server in
      func attack(fragments: Int) async throws -> (time: Duration, memory: Int, answer: [UInt8]) {
        let attacker = try await server.open()
        let thousand = (0..<1000).flatMap { _ in frame(0x00, [UInt8](repeating: 1, count: size)) }
        let before = try server.residentMemory()
        var memory = 0
        let time = try await server.processorTime {
          try await attacker.send(frame(0x02, [UInt8](repeating: 1, count: size)))
          for _ in 0..<fragments / 1000 { try await attacker.send(thousand) }
          // Answered when everything before it has been taken.
          if fragments < limit {
            try await attacker.send(frame(0x89))
            #expect(try await attacker.receive(2) == unmaskedFrame(0x8A))
          }
          memory = try server.residentMemory() - before
        }
        if fragments < limit {
          attacker.socket.abort(CancellationError())
          return (time, memory, [])
        }
        return (time, memory, await attacker.receiveAll().bytes)
      }
      _ = try await attack(fragments: 50_000)
      let small = try await attack(fragments: 250_000)
      let large = try await attack(fragments: limit)
      #expect(large.answer == close(1008))
      #expect(large.memory < 2 * limit * (6 + size))
      expectLinear("fragments", small: small.time, fourTimesAsMuch: large.time)
    }
  }

  @Test("attack 12: a million pings whose pongs nobody reads")
  func pings() async throws {
    try await AttackedServer.run { server in
      let ping = frame(0x89, [UInt8](repeating: 0x70, count: 125))
      let thousand = Array([[UInt8]](repeating: ping, count: 1000).joined())
      func attack(pings: Int) async throws -> (time: Duration, memory: Int) {
        let attacker = try await server.open()
        let before = try server.residentMemory()
        var memory = 0
        let time = try await server.processorTime {
          _ = await attacker.flood(thousand, times: pings / 1000)
          memory = try server.residentMemory() - before
        }
        attacker.socket.abort(CancellationError())
        return (time, memory)
      }
      _ = try await attack(pings: 20_000)
      let small = try await attack(pings: 250_000)
      let large = try await attack(pings: 1_000_000)
      // What a connection may hold to be written, and the loop's buffers.
      #expect(small.memory < 1 << 20 && large.memory < 1 << 20)
      expectLinear("pings", small: small.time, fourTimesAsMuch: large.time)
    }
  }

  @Test("attack 13: unsolicited pongs change nothing")
  func pongs() async throws {
    try await AttackedServer.run { server in
      let thousand = Array([[UInt8]](repeating: frame(0x8A, "nobody asked"), count: 1000).joined())
      let attacker = try await server.open()
      func attack(pongs: Int) async throws -> (time: Duration, memory: Int) {
        let before = try server.residentMemory()
        let time = try await server.processorTime {
          for _ in 0..<pongs / 1000 { try await attacker.send(thousand) }
          try await attacker.send(frame(0x81, "alive"))
          #expect(try await attacker.receive(7) == unmaskedFrame(0x81, "alive"))
        }
        return (time, try server.residentMemory() - before)
      }
      _ = try await attack(pongs: 20_000)
      let small = try await attack(pongs: 250_000)
      let large = try await attack(pongs: 1_000_000)
      #expect(large.memory < 1 << 20)
      expectLinear("pongs", small: small.time, fourTimesAsMuch: large.time)
      attacker.socket.abort(CancellationError())
    }
  }

  @Test("attack 13: a ping of 125 bytes gets its pong")
  func longPing() async throws {
    let payload = (0..<125).map { UInt8($0) }
    try await expectSameHoweverSplit(
      frame(0x89, payload) + frame(0x88), gives: unmaskedFrame(0x8A, payload) + unmaskedFrame(0x88))
  }

  @Test("attack 13: a pong that answers an old ping does not answer a newer one")
  func oldPong() async throws {
    try await withClient(
      of: { server in
        // Two pings come, as masked frames of one byte; both are answered as if they were the first.
        let first = try await server.receive(7)
        let second = try await server.receive(7)
        let pings = first + second
        #expect(pings[0] == 0x89 && pings.count >= 14)
        try await server.send(unmaskedFrame(0x8A, [pings[6] ^ pings[2]]))
        try await server.send(unmaskedFrame(0x81, "answered the first"))
      },
      runs: { ws in
        let old = Task { try await ws.ping([1]) }
        while ws.bufferedAmount > 0 { await Task.yield() }
        try await Task.sleep(for: .milliseconds(20))
        let new = Task { try await ws.ping([2]) }
        #expect(try await ws.read() == "answered the first")
        #expect(try await old.value > .zero)
        ws.abort(CancellationError())
        await #expect(throws: (any Error).self) { try await new.value }
      },
      answers: { _ in
      })
  }

  @Test("attack 14: a peer that never answers the Close is cut off at the time limit")
  func silentPeer() async throws {
    try await AttackedServer.run("close", "closeMilliseconds=300") { server in
      let start = ContinuousClock.now
      let attacker = try await server.open()
      let answer = await attacker.receiveAll()
      #expect(answer.bytes == close(1000, "bye"))
      let time = ContinuousClock.now - start
      #expect(time > .milliseconds(250) && time < .seconds(30))
    }
  }

  @Test("attack 14: a peer that goes on sending instead of answering the Close is cut off all the same")
  func talkativePeer() async throws {
    try await AttackedServer.run("close", "closeMilliseconds=300") { server in
      let start = ContinuousClock.now
      let attacker = try await server.open()
      await #expect(throws: (any Error).self) {
        while ContinuousClock.now - start < .seconds(20) {
          try await attacker.send(frame(0x81, "still here"))
          try await Task.sleep(for: .milliseconds(10))
        }
      }
      #expect(ContinuousClock.now - start < .seconds(30))
    }
  }
}
