import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@Suite("Broadcasts of events", .timeLimit(.minutes(1)))
struct EventBroadcastTests {
  @Test("a broadcast reaches all, puts each event into words once, and cuts who is too slow")
  func broadcast() async throws {
    let broadcast = EventBroadcast(whenSlow: .disconnect)
    let count = 20
    try await servingEvents(unhurried) {
      try await broadcast.serve($0)
    } _: { server in
      var options = quickClient
      options.reconnects = false
      options.timeout = .seconds(50)
      let final = options
      let stalled = try await EventSource.connect(server.url, options: final)
      try await withThrowingTaskGroup(of: [String].self) { group in
        for _ in 0..<count {
          group.addTask {
            var seen: [String] = []
            for try await event in try await EventSource.connect(server.url, options: final) { seen.append(event.data) }
            return seen
          }
        }
        for _ in 0..<4000 where broadcast.count < count + 1 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(broadcast.count == count + 1)
        let long = String(repeating: "x", count: 10_000)
        for number in 0..<60 {
          try await broadcast.write(ServerSentEvent("\(number) \(long)"))
          // The others have their time to read; one that reads nothing has it too.
          try await Task.sleep(for: .milliseconds(2))
        }
        #expect(broadcast.count <= count + 1)
        try await broadcast.close()
        var complete = 0
        for try await seen in group {
          #expect(seen == (0..<seen.count).map { "\($0) \(long)" })
          complete += seen.count == 60 ? 1 : 0
        }
        #expect(complete > 0)
        await #expect(throws: StreamError.closed) { try await broadcast.write(ServerSentEvent("late")) }
      }
      stalled.cancel(nil)
    }
  }

  @Test(
    "a gzip stream of a broadcast's events, of its own and of comments is whole for gzip itself, with the right checksum"
  )
  func gzipOfBroadcast() async throws {
    var options = unhurried
    options.compresses = true
    let broadcast = EventBroadcast(whenSlow: .wait)
    let long = String(repeating: "what is alike, ", count: 10_000)
    try await servingEvents(options) { events in
      try await broadcast.serve(events) {
        try await events.send("own")
        try await events.ping()
        for number in 0..<3 {
          try await broadcast.write(ServerSentEvent("shared \(number)"))
          try await broadcast.write(ServerSentEvent(long, id: "\(number)"))
          try await events.send("own: " + long)
          try await events.send("own again: " + long)
        }
        try await events.ping()
      }
    } _: { server in
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      try await socket.write("GET /feed HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
      let answer = try await socket.collect(limit: 1 << 20) as Bytes
      let head = try #require(answer.firstRange(of: "\r\n\r\n" as Bytes))
      let body = answer[head.upperBound...]
      #expect(body.count < 20_000)
      let gzip = try await ChildProcess.spawn(["gzip", "--decompress", "--stdout"])
      async let written: Void = {
        try await gzip.write(body)
        try await gzip.close()
      }()
      let text = (try await gzip.collect(limit: 10 << 20) as Bytes).string
      try await written
      #expect(try await gzip.waitForExit() == nil)
      let events = (0..<3).map { number in
        "data: shared \(number)\n\nid: \(number)\ndata: \(long)\n\ndata: own: \(long)\n\ndata: own again: \(long)\n\n"
      }
      #expect(text == "data: own\n\n:\n\n" + events.joined() + ":\n\n")
    }
  }

  @Test(
    "a broadcast that holds for the slow goes on where one turn gathers more than the watermark",
    arguments: [false, true])
  func broadcastInOneTurn(isCompressed: Bool) async throws {
    var options = unhurried
    options.compresses = isCompressed
    let broadcast = EventBroadcast(whenSlow: .wait)
    try await servingEvents(options) { events in
      try await broadcast.serve(events) {
        // On the loop, and so without a pause for what was written to leave.
        for number in 0..<1000 {
          let noise = (0..<20).map { _ in String(UInt64.random(in: 0 ... .max), radix: 36) }
          try await broadcast.write(ServerSentEvent(noise.joined(), id: "\(number)"))
        }
      }
    } _: { server in
      let feed = try await EventSource.connect(server.url, options: quickClient)
      for number in 0..<1000 { #expect(try await feed.read()?.id == "\(number)") }
      feed.cancel(nil)
    }
  }
}
