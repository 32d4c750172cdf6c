import Sluice
import SluiceTestSupport
import Synchronization
import Testing

@Suite("Broadcasts", .timeLimit(.minutes(1)))
struct BroadcastTests {
  private func serving(
    _ broadcast: WebSocketBroadcast, _ options: WebSocketServerOptions = WebSocketServerOptions(),
    _ body: (String) async throws -> Void
  ) async throws {
    var options = options
    options.connection.closeTimeout = .milliseconds(200)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task {
      try await server.run { ws in
        try await broadcast.serve(ws) {
          for try await message in ws { try await broadcast.write(message) }
        }
      }
    }
    try await body(server.url)
    running.cancel()
    _ = try? await running.value
  }

  private func waitForMembers(_ count: Int, of broadcast: WebSocketBroadcast) async throws {
    for _ in 0..<1000 where broadcast.count != count { try await Task.sleep(for: .milliseconds(5)) }
    #expect(broadcast.count == count)
  }

  @Test(
    "members on several loops, compressed and not: each gets all, in the order of each writer",
    arguments: [WebSocketBroadcast.SlowPolicy.wait, .waitUpTo(.seconds(10)), .disconnect])
  func everyone(policy: WebSocketBroadcast.SlowPolicy) async throws {
    let broadcast = WebSocketBroadcast(whenSlow: policy)
    var options = WebSocketServerOptions()
    options.loops = 2
    options.extensions = [PermessageDeflate()]
    var compressing = WebSocketClientOptions()
    compressing.extensions = [PermessageDeflate()]
    let compressingClient = compressing
    let (members, writers, count) = (12, 3, 50)
    let text: @Sendable (Int, Int) -> String = { writer, number in
      "\(writer) \(number) " + String(repeating: "x", count: number % 10 == 0 ? 20_000 : number * 10)
    }
    try await serving(broadcast, options) { url in
      try await withThrowingTaskGroup(of: [String].self) { group in
        for number in 0..<members {
          group.addTask {
            let client = number % 2 == 0 ? compressingClient : WebSocketClientOptions()
            let ws = try await WebSocket.connect(url, options: client)
            var seen: [String] = []
            while seen.count < writers * count, let message = try await ws.read() { seen.append(message.text) }
            try await ws.close(.normal)
            return seen
          }
        }
        try await waitForMembers(members, of: broadcast)
        async let written: Void = withThrowingDiscardingTaskGroup { group in
          for writer in 0..<writers {
            group.addTask {
              for number in 0..<count {
                try await broadcast.write(Message(text(writer, number)))
                // The others' turn, so that a member that only reads can keep up.
                try await Task.sleep(for: .milliseconds(1))
              }
            }
          }
        }
        for try await seen in group {
          for writer in 0..<writers {
            #expect(seen.filter { $0.hasPrefix("\(writer) ") } == (0..<count).map { text(writer, $0) })
          }
        }
        try await written
      }
      try await waitForMembers(0, of: broadcast)
    }
  }

  @Test("a member that is slow is waited for, misses what it has no room for, or is cut; the others get all")
  func slow() async throws {
    for policy in [WebSocketBroadcast.SlowPolicy.wait, .dropNewest, .disconnect] {
      let broadcast = WebSocketBroadcast(whenSlow: policy)
      try await serving(broadcast) { url in
        let quick = try await WebSocket.connect(url)
        let slow = try await WebSocket.connect(url)
        try await waitForMembers(2, of: broadcast)
        let count = 300
        let payload = Bytes([UInt8](repeating: 7, count: 100_000))
        let written = Mutex(0)
        async let writing: Void = {
          for _ in 0..<count {
            try await broadcast.write(.binary(payload))
            written.withLock { $0 += 1 }
          }
        }()
        if policy == .wait {
          async let quickCount = Self.count(quick, upTo: count)
          try await Task.sleep(for: .milliseconds(300))
          // What the buffers of the slow one's connection take, and no more.
          #expect(written.withLock { $0 } < count)
          #expect(try await Self.count(slow, upTo: count) == count)
          #expect(try await quickCount == count)
          try await writing
        } else {
          // A quick one has its time between the writes only when it reads at once.
          let quickSeen = try await Self.count(quick, upTo: 20)
          #expect(quickSeen == 20)
          try await writing
          if policy == .disconnect {
            for _ in 0..<1000 where broadcast.count == 2 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(broadcast.count < 2)
          } else {
            #expect(broadcast.count == 2)
          }
        }
        quick.abort(StreamError.aborted)
        slow.abort(StreamError.aborted)
      }
    }
  }

  @Test(
    "who takes nothing holds the others for the time of the policy, and is cut then; many at once reach the others in order"
  )
  func holdUpTo() async throws {
    let broadcast = WebSocketBroadcast(whenSlow: .waitUpTo(.milliseconds(300)))
    try await serving(broadcast) { url in
      let quick = try await WebSocket.connect(url)
      let stalled = try await WebSocket.connect(url)
      try await waitForMembers(2, of: broadcast)
      let batch = (0..<200).map { Message("\($0) " + String(repeating: "x", count: 50_000)) }
      async let writing: Void = broadcast.write(contentsOf: batch)
      for number in 0..<200 { #expect(try await quick.read()?.text.hasPrefix("\(number) ") == true) }
      try await writing
      try await waitForMembers(1, of: broadcast)
      quick.abort(StreamError.aborted)
      stalled.abort(StreamError.aborted)
    }
  }

  private static func count(_ ws: WebSocket, upTo limit: Int) async throws -> Int {
    var count = 0
    while count < limit, try await ws.read() != nil { count += 1 }
    return count
  }

  @Test("closing ends all members with 1000, and takes no more")
  func close() async throws {
    let broadcast = WebSocketBroadcast()
    try await serving(broadcast) { url in
      let first = try await WebSocket.connect(url)
      let second = try await WebSocket.connect(url)
      try await waitForMembers(2, of: broadcast)
      try await broadcast.write("last")
      async let closed: Void = broadcast.close()
      for ws in [first, second] {
        #expect(try await ws.read() == "last")
        #expect(try await ws.read() == nil)
        #expect(ws.closeStatus?.code == .normal)
      }
      try await closed
      await #expect(throws: StreamError.closed) { try await broadcast.write("late") }
    }
  }

  @Test("closing takes as long for many members that don't answer as for one")
  func closeOfMany() async throws {
    let broadcast = WebSocketBroadcast()
    let count = 20
    try await serving(broadcast) { url in
      // Nobody reads, so nobody answers; each has 200 ms.
      var members: [WebSocket] = []
      for _ in 0..<count { members.append(try await WebSocket.connect(url)) }
      try await waitForMembers(count, of: broadcast)
      let start = ContinuousClock.now
      try await broadcast.close()
      #expect(ContinuousClock.now - start < .seconds(2))
      for member in members { member.abort(StreamError.aborted) }
    }
  }

  @Test("the frame on the wire")
  func wire() async throws {
    let broadcast = WebSocketBroadcast()
    try await SimulatedWire.run { near, far, loop in
      let ws = try await SimulatedWire.open(near, far)
      let serving = Task(executorPreference: loop) { try await broadcast.serve(ws) { _ = try await ws.read() } }
      while broadcast.count < 1 { await Task.yield() }
      try await broadcast.write("Hello")
      #expect(try await near.read() == [0x81, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
      ws.abort(StreamError.aborted)
      _ = try? await serving.value
      #expect(broadcast.count == 0)
    }
  }

  @Test(
    "a member that sends a message in parts is not slow: it gets what is for it behind that",
    arguments: [WebSocketBroadcast.SlowPolicy.disconnect, .dropNewest, .wait])
  func insideFragments(policy: WebSocketBroadcast.SlowPolicy) async throws {
    let broadcast = WebSocketBroadcast(whenSlow: policy)
    try await SimulatedConnection.run { ends, loop in
      let serving = Task(executorPreference: loop) {
        try await broadcast.serve(ends.server) { _ = try await ends.server.read() }
      }
      while broadcast.count < 1 { await Task.yield() }
      let parts = ends.server.parts
      try await parts.write(MessagePart(kind: .text, bytes: "be", isFinal: false))
      for number in 0..<20 { try await broadcast.send("\(number)") }
      try await parts.write(MessagePart(kind: .text, bytes: "gun", isFinal: true))
      try await broadcast.send("last")
      var seen: [String] = []
      while seen.count < 22, let message = try await ends.client.read() { seen.append(message.text) }
      #expect(seen == ["begun"] + (0..<20).map { "\($0)" } + ["last"])
      ends.client.abort(StreamError.aborted)
      _ = await serving.result
    }
  }

  enum Ending: CaseIterable { case closed, failed, unended, aborted, lost }

  @Test(
    "a broadcast that is closed while a member sends a message in parts: what it had for the member comes behind that",
    arguments: Ending.allCases)
  func closesBehindParts(_ ending: Ending) async throws {
    let broadcast = WebSocketBroadcast()
    try await SimulatedConnection.run { ends, loop in
      let serving = Task(executorPreference: loop) {
        try await broadcast.serve(ends.server) { _ = try await ends.server.read() }
      }
      while broadcast.count < 1 { await Task.yield() }
      let reading = Task(executorPreference: loop) {
        var seen: [String] = []
        do { for try await message in ends.client { seen.append(message.text) } } catch {}
        return seen
      }
      let parts = ends.server.parts
      try await parts.write(MessagePart(kind: .text, bytes: "be", isFinal: false))
      try await broadcast.send("held")
      let begin = loop.now
      let closing = Task(executorPreference: loop) {
        if ending == .failed {
          try await broadcast.close(after: StreamError.aborted)
        } else {
          try await broadcast.close()
        }
      }
      try await loop.sleep(for: .seconds(1))
      switch ending {
      case .closed, .failed: try await parts.write(MessagePart(kind: .text, bytes: "gun", isFinal: true))
      case .unended: break
      case .aborted: broadcast.abort(StreamError.aborted)
      case .lost: ends.client.abort(StreamError.aborted)
      }
      try await closing.value
      _ = await serving.result
      switch ending {
      case .closed, .failed:
        #expect(await reading.value == ["begun", "held"])
        #expect(loop.now - begin == .seconds(1))
        #expect(ends.client.closeStatus?.code == (ending == .closed ? .normal : .internalError))
      case .unended:
        // As long as the peer's Close may take.
        #expect(await reading.value == [])
        #expect(loop.now - begin == WebSocketOptions().closeTimeout)
        #expect(ends.client.closeStatus?.code == .normal)
      case .aborted, .lost: #expect(loop.now - begin == .seconds(1))
      }
      await #expect(throws: (any Error).self) { try await ends.server.send("late") }
      try await loop.sleep(for: .seconds(60))
      #expect(loop.openTimers == 0)
    }
  }

  @Test("what is held behind parts is bounded: who never ends them is slow after all")
  func heldBehindParts() async throws {
    let broadcast = WebSocketBroadcast()
    try await SimulatedConnection.run { ends, loop in
      let serving = Task(executorPreference: loop) {
        try await broadcast.serve(ends.server) { _ = try await ends.server.read() }
      }
      while broadcast.count < 1 { await Task.yield() }
      try await ends.server.parts.write(MessagePart(kind: .text, bytes: "be", isFinal: false))
      for _ in 0..<1000 { try await broadcast.send("") }
      await #expect(throws: (any Error).self) { try await serving.value }
      ends.client.abort(StreamError.aborted)
    }
  }

  @Test("a broadcast that waits for a member's message in parts goes on when that has ended")
  func waitsForTheEndOfParts() async throws {
    let broadcast = WebSocketBroadcast(whenSlow: .wait)
    try await SimulatedConnection.run { ends, loop in
      let serving = Task(executorPreference: loop) {
        try await broadcast.serve(ends.server) { _ = try await ends.server.read() }
      }
      while broadcast.count < 1 { await Task.yield() }
      let parts = ends.server.parts
      try await parts.write(MessagePart(kind: .text, bytes: "be", isFinal: false))
      // More than may be held meanwhile.
      let writing = Task(executorPreference: loop) {
        for number in 0..<1000 { try await broadcast.send("\(number)") }
      }
      let reading = Task(executorPreference: loop) {
        var count = 0
        while count < 1001, try await ends.client.read() != nil { count += 1 }
        return count
      }
      try await loop.sleep(for: .seconds(1))
      try await parts.write(MessagePart(kind: .text, bytes: "gun", isFinal: true))
      try await writing.value
      #expect(try await reading.value == 1001)
      ends.client.abort(StreamError.aborted)
      _ = await serving.result
    }
  }

  @Test("who joins as the broadcast closes is closed too", arguments: [true, false])
  func joinAndClose(aborts: Bool) async throws {
    for round in 0..<30 {
      let broadcast = WebSocketBroadcast()
      let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
      async let accepted = server.connections.read()
      let client = try await WebSocket.connect(server.url)
      let ws = try #require(try await accepted)
      // From another thread: the member is on its way to its loop as the end is.
      let joining = Task.detached {
        try await broadcast.serve(ws) { await ws.waitUntilClosed() }
      }
      if round % 3 > 0 { try await Task.sleep(for: .microseconds(round * 10)) }
      if aborts { broadcast.abort(StreamError.aborted) } else { try await broadcast.close() }
      let reading = Task { while try await client.read() != nil {} }
      do { try await joining.value } catch StreamError.closed { ws.abort(StreamError.aborted) }
      _ = await reading.result
      server.stop()
    }
  }
}
