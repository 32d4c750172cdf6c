import Sluice
import SluiceHTTP
import SluiceTestSupport
import Synchronization
import Testing

/// `onRequest`: the application looks at a request before the 101.
@Suite("a request is accepted by the application, which may take its time", .timeLimit(.minutes(1)))
struct AcceptanceTests {
  struct User: Sendable, Equatable {
    let name: String
  }

  private func options(
    _ onRequest: @escaping @Sendable (HTTPRequest) async throws -> WebSocketAcceptance
  ) -> WebSocketHandshakeOptions {
    var options = WebSocketHandshakeOptions()
    options.onRequest = onRequest
    return options
  }

  @Test("headers, a subprotocol and a value are given with the acceptance, and the handler gets the value")
  func accepted() async throws {
    try await SimulatedLoop.run { loop in
      let server = options { request in
        try await loop.sleep(for: .seconds(3))
        return WebSocketAcceptance(
          headers: ["X-User": "ada"], subprotocol: "second", value: User(name: request.pathAndQuery.path))
      }
      let start = loop.now
      let ends = try await WebSocket.pair("ws://test/ada", protocols: ["first", "second"], server: server)
      #expect(loop.now - start >= .seconds(3))
      #expect(ends.client.headers["x-user"] == "ada" && ends.client.protocol == "second")
      #expect(ends.server.protocol == "second")
      #expect(ends.server.value(as: User.self) == User(name: "/ada"))
      #expect(ends.server.value(as: Int.self) == nil && ends.client.value(as: User.self) == nil)
      #expect(ends.server.request?.path == "/ada")
      try await ends.client.close()
    }
  }

  @Test("a dictionary of headers is an acceptance")
  func dictionary() async throws {
    try await SimulatedLoop.run { _ in
      let ends = try await WebSocket.pair(server: options { _ in ["X-Room": "blue"] })
      #expect(ends.client.headers["X-Room"] == "blue" && ends.server.value(as: User.self) == nil)
      try await ends.client.close()
    }
  }

  @Test(
    "what is thrown is the answer: a rejection with its status, anything else with 500; so is a subprotocol that was not offered",
    arguments: [401, 500, 501])
  func refused(kind: Int) async throws {
    try await SimulatedLoop.run { loop in
      let server = options { _ in
        try await loop.sleep(for: .seconds(1))
        switch kind {
        case 401: throw RequestRejection.unauthorized()
        case 500: throw StreamError.aborted
        default: return WebSocketAcceptance(subprotocol: "other")
        }
      }
      do {
        _ = try await WebSocket.pair(protocols: ["chat"], server: server)
        Issue.record("it was accepted")
      } catch WebSocketConnectError.handshake(.refused(let status, _, _)) {
        #expect(status == min(kind, 500))
      }
    }
  }

  @Test("what the client sends ahead, in pieces, is read when it is accepted", arguments: [1, 7, 1000])
  func early(pieceSize: Int) async throws {
    try await SimulatedWire.run(pieceSize: pieceSize, delay: .milliseconds(1)) { near, far, loop in
      let options = options { _ in
        try await loop.sleep(for: .seconds(5))
        return [:]
      }
      async let accepted = WebSocket.accept(over: far, options: options)
      try await near.write(SimulatedWire.request)
      for number in 0..<50 { try await near.write(frame(0x81, Bytes("message \(number)"))) }
      let ws = try await accepted
      for number in 0..<50 { #expect(try await ws.read()?.text == "message \(number)") }
      ws.abort()
    }
  }

  @Test("a client that sends more than a limit ahead waits, and gets through when it is accepted")
  func flooding() async throws {
    try await SimulatedWire.run { near, far, loop in
      let options = options { _ in
        try await loop.sleep(for: .seconds(5))
        return [:]
      }
      async let accepted = WebSocket.accept(over: far, options: options)
      try await near.write(SimulatedWire.request)
      let message = Bytes([UInt8](repeating: 7, count: 50_000))
      let writing = Task { for _ in 0..<20 { try await near.write(frame(0x82, message)) } }
      try await loop.sleep(for: .seconds(4))
      // No more was taken than the limit, and a chunk beyond it.
      #expect((near.deliveredByteCount ?? 0) < 256 << 10)
      let ws = try await accepted
      for _ in 0..<20 { #expect(try await ws.read()?.bytes.count == 50_000) }
      try await writing.value
      ws.abort()
    }
  }

  @Test("a client that leaves while it is asked about ends the question", arguments: [false, true])
  func leaves(resets: Bool) async throws {
    try await SimulatedWire.run { near, far, loop in
      let isCancelled = Mutex(false)
      let options = options { _ in
        do { try await loop.sleep(for: .seconds(3600)) } catch {
          isCancelled.withLock { $0 = true }
          throw error
        }
        return [:]
      }
      let final = options
      let accepted = Task(executorPreference: loop) { try await WebSocket.accept(over: far, options: final) }
      try await near.write(SimulatedWire.request)
      try await loop.sleep(for: .seconds(1))
      if resets { near.abort() } else { try await near.close() }
      await #expect(throws: (any Error).self) { _ = try await accepted.value }
      try await loop.sleep(for: .seconds(1))
      #expect(isCancelled.withLock { $0 } && loop.now < .seconds(10))
    }
  }

  @Test("the time for the handshake counts the question too")
  func timeout() async throws {
    try await SimulatedWire.run { near, far, loop in
      var options = options { _ in
        try await loop.sleep(for: .seconds(3600))
        return [:]
      }
      options.handshakeTimeout = .seconds(4)
      let final = options
      let accepted = Task(executorPreference: loop) { try await WebSocket.accept(over: far, options: final) }
      try await near.write(SimulatedWire.request)
      await #expect(throws: WebSocketConnectError.timeout(.seconds(4))) { _ = try await accepted.value }
      #expect(loop.now == .seconds(4))
      try await loop.sleep(for: .seconds(1))
      #expect(loop.openTimers == 0)
    }
  }
}

@Suite("what a WebSocket says of itself without waiting", .timeLimit(.minutes(1)))
struct KnownPropertiesTests {
  @Test("its life and both closes are known at once, and stay when it is over")
  func life() async throws {
    try await SimulatedLoop.run { _ in
      let (client, server) = try await WebSocket.pair()
      #expect(client.readyState == .open && client.closeStatus == nil && client.sentCloseStatus == nil)
      async let end = server.read()
      try await client.close(CloseCode(rawValue: 4001), "bye")
      #expect(client.sentCloseStatus?.code.rawValue == 4001 && client.sentCloseStatus?.reason == "bye")
      #expect(client.closeStatus?.code.rawValue == 4001 && client.readyState == .closed)
      #expect(try await end == nil)
      #expect(server.closeStatus?.code.rawValue == 4001 && server.closeStatus?.reason == "bye")
      await server.waitUntilClosed()
      #expect(server.readyState == .closed && server.sentCloseStatus?.code.rawValue == 4001)
    }
  }

  @Test("so is a connection that was cut, from any thread")
  func cut() async throws {
    let (client, server) = try await WebSocket.pair(on: UVLoop.shared)
    #expect(server.readyState == .open)
    client.abort()
    await #expect(throws: WebSocketError.self) { _ = try await server.read() }
    #expect(server.readyState == .closed && server.closeStatus == nil)
  }

  @Test("path and query, on both sides, while it lasts and afterwards")
  func target() async throws {
    try await SimulatedLoop.run { _ in
      let (client, server) = try await WebSocket.pair("ws://test/rooms/blue?user=ada&x=?", protocols: ["chat"])
      for _ in 0..<2 {
        for ws in [client, server] {
          #expect(ws.path == "/rooms/blue" && ws.query == "user=ada&x=?" && ws.parameters.isEmpty)
          #expect(ws.protocol == "chat")
        }
        #expect(server.request?.path == "/rooms/blue?user=ada&x=?" && client.request == nil)
        try await client.close()
      }
    }
  }
}
