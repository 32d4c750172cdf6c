import Sluice
import SluiceHTTP
import SluiceIO
import SluiceWebSocketProtocol
import Synchronization
import Testing

@Suite("Servers and cancellation", .timeLimit(.minutes(2)))
struct ServerTests {
  @Test("several loops serve one port")
  func loops() async throws {
    var options = WebSocketServerOptions()
    options.loops = 3
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<50 {
        group.addTask {
          let ws = try await WebSocket.connect(server.url)
          try await ws.send("\(number)")
          #expect(try await ws.read()?.text == "\(number)")
          try await ws.close(.normal)
        }
      }
      try await group.waitForAll()
    }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  @Test("a path that is served, and one that is not")
  func path() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0/chat")
    let running = Task { try await server.run { ws in try await ws.send(ws.request?.path ?? "none") } }
    let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/chat?room=1")
    #expect(try await ws.read() == "/chat?room=1")
    #expect(try await ws.read() == nil)
    do {
      _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/other")
      Issue.record("another path was served")
    } catch WebSocketConnectError.handshake(.refused(let status, _, _)) {
      #expect(status == 404)
    }
    running.cancel()
    _ = try? await running.value
  }

  @Test("cancellation at any await leaves no handle and no timer behind")
  func cancellation() async throws {
    let loop = try UVLoop(name: "counted")
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    for delay in 0..<40 {
      let task = Task {
        let ws = try await WebSocket.connect(server.url, on: loop)
        do {
          for number in 0..<20 {
            try await ws.send("\(number)")
            _ = try await ws.read()
            try await ws.ping()
          }
          try await ws.pipe(ws)
        } catch {
          ws.abort(error)
          throw error
        }
      }
      try await Task.sleep(for: .microseconds(delay * 100))
      task.cancel()
      await #expect(throws: (any Error).self) { try await task.value }
    }
    try await Task.sleep(for: .milliseconds(100))
    #expect(try await loop.run { loop.openHandles } == 0)
    #expect(try await loop.run { loop.openTimers } == 0)
    running.cancel()
    _ = try? await running.value
    loop.stop()
  }

  @Test("a handler that ignores its connection is cancelled at shutdown, after the close timeout")
  func stubbornHandler() async throws {
    var options = WebSocketServerOptions()
    options.connection.closeTimeout = .milliseconds(200)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { _ in try await Task.sleep(for: .seconds(1000)) } }
    let ws = try await WebSocket.connect(server.url)
    running.cancel()
    #expect(try await ws.read() == nil)
    #expect(ws.closeStatus != nil)
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  @Test("bad URLs, subprotocols and headers are refused before anything is sent (ATTACKS 27)")
  func badArguments() async throws {
    await #expect(throws: URLError.self) { try await WebSocket.connect("http://127.0.0.1") }
    await #expect(throws: URLError.self) { try await WebSocket.connect("ws://h/\r\nX: y") }
    await #expect(throws: SubprotocolError.notAToken) {
      try await WebSocket.connect("ws://127.0.0.1:1", protocols: ["a b"])
    }
    for headers in [["A": "b\r\nC: d"], ["A\n": "b"], ["Host": "e\r\nvil"], ["Sec-WebSocket-Key": "mine"]] as [Headers]
    {
      var options = WebSocketClientOptions()
      options.headers = headers
      let final = options
      await #expect(throws: HTTPFieldError.self) { try await WebSocket.connect("ws://127.0.0.1:1", options: final) }
    }
  }
}

@Suite("What outlives a server's loops", .timeLimit(.minutes(1)))
struct StoppedServerTests {
  @Test("a WebSocket and a broadcast that were kept answer when the server and its loops have ended")
  func kept() async throws {
    let room = WebSocketBroadcast()
    let kept = Mutex<[WebSocket]>([])
    var options = WebSocketServerOptions()
    options.loops = 2
    options.connection.closeTimeout = .milliseconds(100)
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let running = Task {
      try await server.run { ws in
        kept.withLock { $0.append(ws) }
        try await room.serve(ws) { _ = try await ws.read() }
      }
    }
    var clients: [WebSocket] = []
    for _ in 0..<8 { clients.append(try await WebSocket.connect(server.url)) }
    while room.count < 8 { try await Task.sleep(for: .milliseconds(2)) }
    running.cancel()
    _ = try? await running.value
    for client in clients { #expect(try await client.read() == nil) }
    for round in 0..<2 {
      for ws in kept.withLock({ $0 }) {
        try await ws.close()
        _ = ws.closeStatus
        await #expect(throws: (any Error).self) { try await ws.send("late") }
        _ = try? await ws.read()
        ws.abort(StreamError.aborted)
      }
      try await room.write("nobody")
      // The first time while the loops end, the second when they have.
      if round == 0 { try await Task.sleep(for: .milliseconds(300)) }
    }
    for client in clients { try await client.close() }
  }
}
