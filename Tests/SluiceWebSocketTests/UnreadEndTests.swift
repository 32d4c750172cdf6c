import Logging
import Sluice
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

@testable import SluiceWebSocket

/// A connection is over with its peer, and not when somebody finds the time to read: whoever does not read hears of an end all the same, whether what
/// came before it is read ahead or more than that.
@Suite("An end behind what nobody reads", .timeLimit(.minutes(2)))
struct UnreadEndTests {
  enum Handler: CaseIterable { case sleeps, readsOnce, waitsUntilClosed, pings, pausesCallbacks, sleepsBehindExtension }

  enum End: CaseIterable {
    /// With a Close; the client gives the connection up when that is not answered in 10 seconds.
    case close
    /// Of its half, without one.
    case half
    case reset
  }

  enum Over: CaseIterable { case memory, tls }

  @Test("ends every handler", arguments: Handler.allCases, End.allCases)
  func endsHandler(_ handler: Handler, _ end: End) async throws {
    let certificates = try await Certificates.load()
    for over in Over.allCases {
      // The last are more than is read ahead, and with what is not read less than the network holds.
      for messages in over == .memory ? [0, 3, 70] : [70] where messages > 0 || handler != .readsOnce {
        let loop = SimulatedLoop()
        try await loop.simulate {
          var network = SimulatedNetwork(loop: loop)
          network.delay = .milliseconds(1)
          network.pieceSize = 2000
          network.window = 128 << 10
          let (near, far) = network.connection()
          let (peer, transport) = try await Self.ends(over, near, far, certificates)
          let serving = try await Self.serve(handler, peer, transport)
          for _ in 0..<messages { try await peer.write(frame(0x82, Bytes([UInt8](repeating: 1, count: 1000)))) }
          try await loop.sleep(for: .seconds(1))
          let start = loop.now
          let answer = try await Self.leave(end, peer, loop)
          _ = await serving.result
          let time = loop.now - start
          // `stallTimeout` after the client has given up.
          #expect(time < .seconds(85), "\(over), \(messages) messages: \(time)")
          // Extensions are not read ahead of.
          if end == .close, messages == 3, handler != .pausesCallbacks, handler != .sleepsBehindExtension {
            #expect(answer, "\(over): the Close was not answered")
          }
          peer.abort(StreamError.aborted)
          // Half of what an end waits for that may be known of: its timer ends with the connection.
          try await loop.sleep(for: .seconds(30))
          #expect(loop.openTimers == 0, "\(over), \(messages) messages")
        }
      }
    }
  }

  /// - Returns: whether a Close came back.
  private static func leave(
    _ end: End, _ peer: any PolledDuplexStream<Bytes, Bytes>, _ loop: SimulatedLoop
  ) async throws -> Bool {
    switch end {
    case .reset: peer.abort(StreamError.aborted)
    case .half: try await peer.close()
    case .close:
      try await peer.write(frame(0x88, [0x03, 0xE8]))
      let reading = Task(executorPreference: loop) { () async -> Bool in
        do { while let chunk = try await peer.read() { if chunk.first == 0x88 { return true } } } catch {}
        return false
      }
      let limit = loop.schedule(after: .seconds(10)) { peer.abort(StreamError.aborted) }
      let isAnswered = await reading.value
      loop.cancelTimer(limit)
      try? await peer.close()
      return isAnswered
    }
    return false
  }

  private static func ends(
    _ over: Over, _ near: SimulatedStream, _ far: SimulatedStream, _ certificates: Certificates
  ) async throws -> (any PolledDuplexStream<Bytes, Bytes>, any PolledDuplexStream<Bytes, Bytes>) {
    if over == .memory { return (near, far) }
    let (client, server) = (try certificates.client(), try certificates.server())
    async let accepted = server.accept(over: far)
    let connected = try await client.connect(over: near, to: "www.example.com")
    return (connected, try await accepted)
  }

  private static func serve(
    _ handler: Handler, _ peer: any PolledDuplexStream<Bytes, Bytes>, _ transport: any PolledDuplexStream<Bytes, Bytes>
  ) async throws -> Task<Void, any Error> {
    var options = WebSocketHandshakeOptions()
    let isExtended = handler == .sleepsBehindExtension
    if isExtended { options.extensions = [HalfClosedPeerTests.Slow()] }
    async let accepted = accept(over: transport, options)
    try await peer.write(isExtended ? SimulatedWire.request(extensions: "x-slow") : SimulatedWire.request)
    var head = ""
    while !head.hasSuffix("\r\n\r\n"), let chunk = try await peer.read() { head += chunk.string }
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let socket = try await accepted
    return socket.startServing(logger: logger) { ws in
      switch handler {
      case .sleeps, .sleepsBehindExtension: try await sleep(ws)
      case .readsOnce:
        guard try await ws.read() != nil else { return }
        try await sleep(ws)
      case .waitsUntilClosed: await ws.waitUntilClosed()
      case .pings: await #expect(throws: (any Error).self) { try await ws.ping() }
      case .pausesCallbacks: await WebSocketCallbacks(ws).waitUntilClosed()
      }
    }
  }

  private static func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: WebSocketHandshakeOptions
  ) async throws -> WebSocket { try await WebSocket.accept(over: transport, options: options) }

  private static func sleep(_ ws: WebSocket) async throws { try await ws.loop.sleep(for: .seconds(600)) }

  @Test(
    "a reader that comes back in time gets all of it, however much it is",
    arguments: [Duration.seconds(50), .seconds(1)])
  func lateReader(pause: Duration) async throws {
    try await SimulatedWire.run(pieceSize: 2000, delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      for number in 0..<100 { try await near.write(frame(0x82, Bytes([UInt8](repeating: UInt8(number), count: 1000)))) }
      try await near.close()
      for number in 0..<100 {
        try await loop.sleep(for: pause)
        #expect(try await server.read()?.bytes.first == UInt8(number))
      }
      await #expect(throws: WebSocketError.self) { try await server.read() }
      try await loop.sleep(for: .seconds(60))
      #expect(loop.openTimers == 0)
    }
  }

  @Test("and so does one that takes its time over messages that came together", arguments: [nil, Duration.seconds(60)])
  func lateLoop(stallTimeout: Duration?) async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.stallTimeout = stallTimeout
    try await SimulatedWire.run(pieceSize: 64 << 10, delay: .milliseconds(1)) { [options] near, far, loop in
      let server = try await SimulatedWire.open(near, far, options: options)
      var wire = BytesBuilder()
      // Of 16 bytes, so that one read of the transport has hundreds of them, in more bytes than are read ahead.
      for number in 0..<4000 { wire.append(frame(0x82, Bytes([UInt8](repeating: UInt8(number % 251), count: 16)))) }
      try await near.write(wire.take())
      try await near.close()
      var count = 0
      do {
        for try await message in server {
          #expect(message.bytes.first == UInt8(count % 251))
          count += 1
          // Half a minute for each hundred: none of them is too late, all of them take twenty minutes.
          if count % 100 == 0 { try await loop.sleep(for: .seconds(30)) }
        }
        Issue.record("an end without a Close is a loss")
      } catch is WebSocketError {}
      #expect(count == 4000)
      try await loop.sleep(for: .seconds(30))
      #expect(loop.openTimers == 0)
    }
  }

  @Test("and one that does not gets what was read ahead, and a loss")
  func tooLate() async throws {
    try await SimulatedWire.run(pieceSize: 2000, delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      for number in 0..<100 { try await near.write(frame(0x82, Bytes([UInt8](repeating: UInt8(number), count: 1000)))) }
      try await near.close()
      try await loop.sleep(for: .seconds(70))
      #expect(server.readyState == .closed)
      var count = 0
      await #expect(throws: WebSocketError.self) {
        while let message = try await server.read() {
          #expect(message.bytes.first == UInt8(count))
          count += 1
        }
      }
      #expect(count > 40 && count < 100)
    }
  }

  @Test("sockets tell of it while nobody reads", arguments: [true, false], [End.half, .reset])
  func sockets(isSecure: Bool, end: End) async throws {
    var options = WebSocketServerOptions()
    (options.connection.closeTimeout, options.connection.stallTimeout) = (.milliseconds(200), .milliseconds(200))
    options.maxConnections = 1
    var clientOptions = WebSocketClientOptions()
    if isSecure {
      let certificates = try await Certificates.load()
      options.tls = try certificates.server()
      clientOptions.tls = try certificates.client()
    }
    let server = try await WebSocketServer.listen(isSecure ? "wss://127.0.0.1:0" : "ws://127.0.0.1:0", options: options)
    let running = Task { try await server.run { ws in try await Task.sleep(for: .seconds(60)) } }
    let client = try await WebSocket.connect(server.url, options: clientOptions)
    // More than is read ahead, and less than the system holds.
    for _ in 0..<100 { try await client.send(Bytes([UInt8](repeating: 1, count: 1000))) }
    try await Task.sleep(for: .milliseconds(50))
    await #expect(throws: (any Error).self) { try await WebSocket.connect(server.url, options: clientOptions) }
    if end == .half {
      try await client.loop.run { client.transport.closeWhenFlushed { _ in } }
    } else {
      client.abort(StreamError.aborted)
    }
    let deadline = ContinuousClock.now + .seconds(20)
    var next: WebSocket?
    while next == nil, ContinuousClock.now < deadline {
      next = try? await WebSocket.connect(server.url, options: clientOptions)
      if next == nil { try await Task.sleep(for: .milliseconds(10)) }
    }
    #expect(next != nil, "the place is still taken")
    next?.abort(StreamError.aborted)
    client.abort(StreamError.aborted)
    running.cancel()
    _ = await running.result
  }

  @Test(
    "a transport that fails in sending only is read to what came, and then the connection is lost",
    arguments: [true, false])
  func sendingFails(hasClosed: Bool) async throws {
    struct Refused: Error {}
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let server = try await SimulatedWire.open(near, far)
      for number in 0..<3 { try await near.write(frame(0x81, Bytes("\(number)"))) }
      if hasClosed { try await near.write(frame(0x88, [0x03, 0xF3])) }
      try await loop.sleep(for: .seconds(1))
      far.failSends(Refused())
      // Nobody hears of what is sent now.
      try await server.send("unheard")
      try await loop.sleep(for: .zero)
      do {
        try await server.send("refused")
        Issue.record("something was sent")
      } catch WebSocketError.connectionLost(let underlying) {
        #expect(underlying is Refused)
      } catch { Issue.record("\(error)") }
      let start = loop.now
      for number in 0..<3 { #expect(try await server.read()?.text == "\(number)") }
      do {
        _ = try await server.read()
        Issue.record("a good end")
      } catch WebSocketError.closed(let code, _) {
        #expect(hasClosed && code == .internalError)
      } catch WebSocketError.connectionLost(let underlying) {
        #expect(!hasClosed && underlying is Refused)
      }
      #expect(loop.now - start <= .seconds(11))
      await #expect(throws: WebSocketError.self) { try await server.close() }
      near.abort(StreamError.aborted)
      try await loop.sleep(for: .seconds(400))
      #expect(loop.openTimers == 0)
    }
  }
}
