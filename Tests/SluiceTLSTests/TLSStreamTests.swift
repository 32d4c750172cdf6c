import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

@Suite("TLS streams", .timeLimit(.minutes(3)))
struct TLSStreamTests {
  private final class WeakTransport: @unchecked Sendable {  // touched by one test, in turn
    weak var stream: SimulatedStream?
  }

  /// Runs a test on virtual time with TLS at both ends.
  private func run(
    pieceSize: Int = .max, window: Int? = nil, server: TLSServerContext? = nil, client: TLSClientContext? = nil,
    name: String = "www.example.com",
    _ body: @escaping @Sendable (TLSStream, TLSStream, SimulatedStream, SimulatedLoop) async throws -> Void
  ) async throws {
    let certificates = try await Certificates.load()
    let serverContext = try server ?? certificates.server()
    let clientContext = try client ?? certificates.client()
    let loop = SimulatedLoop()
    var network = SimulatedNetwork(loop: loop)
    network.pieceSize = pieceSize
    if let window { network.window = window }
    let final = network
    try await loop.simulate {
      let (near, far) = final.connection()
      async let accepted = serverContext.accept(over: far)
      let connected = try await clientContext.connect(over: near, to: name)
      try await body(connected, accepted, near, loop)
    }
  }

  @Test("bytes go both ways, however the records are cut", arguments: [1, 2, 1000, .max])
  func echo(pieceSize: Int) async throws {
    try await run(pieceSize: pieceSize) { client, server, _, _ in
      async let served: Void = server.pipe(server)
      for size in [1, 2, 1000, pieceSize <= 2 ? 20_000 : 300_000] {
        let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        async let sent: Void = client.write(bytes)
        var received = BytesBuilder()
        while received.count < size { received.append(try #require(try await client.read())) }
        try await sent
        #expect(received.take() == bytes)
      }
      try await client.close()
      #expect(try await client.read() == nil)
      try await served
    }
  }

  // What was written and had not left counted as the protocol's own answers, and beyond 16 KiB of these nothing is read: each waited for the other to read.
  @Test(
    "both ends read though both have more to write than leaves", arguments: [1000, 20_000, 40_000, 100_000], [0, 1, 2])
  func bothWrite(size: Int, asks: Int) async throws {
    try await run(window: 4096) { client, server, _, loop in
      let bytes = Bytes([UInt8](repeating: 7, count: size))
      for round in 0..<5 {
        for stream in [client, server] {
          try stream.push(bytes)
          // In the turn in which it was written.
          if round == 0 { while case .element = try stream.poll() {} }
        }
        for _ in 0..<asks { try await client.updateKeys() }
      }
      async let atServer = server.collect(limit: 1 << 20)
      async let atClient = client.collect(limit: 1 << 20)
      try await client.close()
      try await server.close()
      #expect(try await (atServer.count, atClient.count) == (5 * size, 5 * size))
    }
  }

  @Test(
    "a stream whose transport is lost lets go of it once nobody reads, though nobody closes it",
    arguments: [true, false])
  func releasesUnclosed(isWriting: Bool) async throws {
    let transport = WeakTransport()
    try await run { client, server, near, loop in
      transport.stream = near
      let writing = Task(executorPreference: loop) {
        while isWriting { try await client.write(Bytes([UInt8](repeating: 1, count: 100_000))) }
      }
      try await loop.sleep(for: .seconds(1))
      server.abort(StreamError.aborted)
      try await loop.sleep(for: .seconds(1))
      if isWriting { await #expect(throws: (any Error).self) { try await writing.value } }
      #expect(throws: (any Error).self) { try client.hasRoom() }
      client.cancel(nil)
      server.cancel(nil)
      try await loop.sleep(for: .seconds(60))
    }
    #expect(transport.stream == nil)
  }

  @Test("a stream that is closed when its transport is lost lets go of it")
  func releasesLostTransport() async throws {
    let transport = WeakTransport()
    try await run { client, server, near, loop in
      transport.stream = near
      try await server.close()
      #expect(try await client.read() == nil)
      server.cancel(nil)
      server.abort(StreamError.aborted)
      near.abort(ConnectionReset())
      try await loop.sleep(for: .seconds(1))
      // The peer has ended, and is owed nothing but our close_notify.
      try? await client.close()
    }
    #expect(transport.stream == nil)
  }

  @Test("the halves end independently: close_notify is the end of one, and the other goes on")
  func halfClose() async throws {
    try await run { client, server, _, _ in
      try await client.write("question")
      try await client.close()
      #expect(try await server.read() == "question")
      #expect(try await server.read() == nil)
      try await server.write("answer")
      try await server.close()
      #expect(try await client.read() == "answer")
      #expect(try await client.read() == nil)
      await #expect(throws: StreamError.closed) { try await client.write("more") }
    }
  }

  /// Runs a test with a server's stream and a client's, whose connection the client's does not end: that is for the test.
  private func runOverBareConnection(
    _ body: @escaping @Sendable (TLSStream, TLSStream, SimulatedStream, SimulatedLoop) async throws -> Void
  ) async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (near, far) = network.connection()
      let transport = JoinedStream(reading: near, writing: Writable<Bytes> { try await near.write($0) })
      async let accepted = serverContext.accept(over: far)
      let client = try await clientContext.connect(over: transport.polled(on: loop), to: "www.example.com")
      try await body(try await accepted, client, near, loop)
    }
  }

  @Test("nothing keeps a stream whose peer has ended and is gone, and which is closed then")
  func releasedBehindGonePeer() async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      weak var left: TLSStream?
      do {
        let (near, far) = network.connection()
        let transport = JoinedStream(reading: near, writing: Writable<Bytes> { try await near.write($0) })
        async let accepted = serverContext.accept(over: far)
        let client = try await clientContext.connect(over: transport.polled(on: loop), to: "www.example.com")
        let server = try await accepted
        left = server
        try await client.close()
        #expect(try await server.read() == nil)
        near.abort(StreamError.aborted)
        try await loop.sleep(for: .seconds(1))
        try await server.close()
      }
      try await loop.sleep(for: .seconds(1))
      #expect(left == nil)
    }
  }

  @Test("a peer that has sent close_notify and is gone misses nothing: our close is a good one (RFC 8446 §6.1)")
  func peerGoneBehindItsEnd() async throws {
    try await runOverBareConnection { server, client, near, loop in
      try await client.write("last")
      try await client.close()
      #expect(try await server.read() == "last")
      #expect(try await server.read() == nil)
      near.abort(StreamError.aborted)
      try await loop.sleep(for: .seconds(1))
      try await server.close()
      try await server.close()
      await #expect(throws: StreamError.closed) { try await server.write("more") }
    }
  }

  @Test(
    "a peer that is gone without its close_notify, or before it has what was written, makes our close fail",
    arguments: [true, false])
  func peerGoneBeforeTheEnd(hasEnded: Bool) async throws {
    try await runOverBareConnection { server, client, near, loop in
      if hasEnded {
        try await client.close()
        #expect(try await server.read() == nil)
        // More than the network holds.
        for _ in 0..<10 { try server.push(Bytes([UInt8](repeating: 7, count: 16 << 10))) }
        let closing = Task(executorPreference: loop) { try await server.close() }
        try await loop.sleep(for: .seconds(1))
        near.abort(StreamError.aborted)
        await #expect(throws: ConnectionReset.self) { try await closing.value }
      } else {
        near.abort(StreamError.aborted)
        try await loop.sleep(for: .seconds(1))
        await #expect(throws: ConnectionReset.self) { try await server.close() }
        await #expect(throws: ConnectionReset.self) { try await server.read() }
      }
    }
  }

  @Test(
    "where the source has failed there is no close_notify: the peer has all that was written, and does not take it for everything"
  )
  func closeAfterFailure() async throws {
    struct SourceFailure: Error {}
    try await run { client, server, _, _ in
      let bytes = Bytes([UInt8](repeating: 7, count: 100_000))
      async let sent: Void = {
        try await client.write(bytes)
        try await client.close(after: SourceFailure())
      }()
      var count = 0
      await #expect(throws: (any Error).self) {
        while let chunk = try await server.read() { count += chunk.count }
      }
      #expect(count == bytes.count)
      try await sent
      await #expect(throws: StreamError.closed) { try await client.write("more") }
      // Later closes change nothing.
      try await client.close()
    }
    // An end without a reset is not a good one either.
    try await run { client, server, near, _ in
      try await client.write("begun")
      client.flush()
      try await near.close()
      #expect(try await server.read() == "begun")
      await #expect(throws: TLSError.truncated) { try await server.read() }
    }
  }

  @Test("attack 37: an end without close_notify throws, also in the middle of data")
  func truncation() async throws {
    try await run { client, server, near, _ in
      try await client.write("begun")
      #expect(try await server.read() == "begun")
      try await near.close()
      await #expect(throws: TLSError.truncated) { try await server.read() }
      await #expect(throws: TLSError.truncated) { try await server.read() }
    }
  }

  @Test("whichever side ends first, nothing keeps a stream whose halves have both ended", arguments: [true, false])
  func released(serverEndsFirst: Bool) async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      weak var left: TLSStream?
      do {
        let (near, far) = network.connection()
        async let accepted = serverContext.accept(over: far)
        let client = try await clientContext.connect(over: near, to: "www.example.com")
        let server = try await accepted
        left = server
        let (first, second) = serverEndsFirst ? (server, client) : (client, server)
        try await first.close()
        #expect(try await second.read() == nil)
        try await second.close()
        #expect(try await first.read() == nil)
      }
      try await loop.sleep(for: .seconds(1))
      #expect(left == nil)
    }
  }

  @Test("a peer that sends on behind its close_notify, and does not end, does not keep our socket open")
  func bytesBehindTheEnd() async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    let loop = try UVLoop(name: "behind-the-end")
    defer { loop.stop() }
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    let socket = try await TCP.connect("127.0.0.1", port: listener.port)
    defer { socket.abort(StreamError.aborted) }
    let accepting = Task {
      let socket = try #require(try await listener.read())
      listener.cancel()
      return try await serverContext.accept(over: socket)
    }
    // TLS ends here without the connection's end.
    let transport = JoinedStream(reading: socket, writing: Writable { try await socket.write($0) })
    let client = try await clientContext.connect(over: transport.polled(on: UVLoop.shared), to: "www.example.com")
    let server = try await accepting.value
    try await client.close()
    try await socket.write(Bytes([UInt8](repeating: 0x17, count: 100_000)))
    #expect(try await server.read() == nil)
    try await server.close()
    for _ in 0..<500 where try await loop.run({ loop.openHandles }) > 0 {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(try await loop.run { loop.openHandles } == 0)
  }

  @Test("a reader that stops stops the sender, and all bytes arrive once it goes on")
  func backpressure() async throws {
    try await run { client, server, near, loop in
      async let sent: Void = {
        let block = Bytes([UInt8](repeating: 7, count: 10_000))
        for _ in 0..<500 { try await client.write(block) }
        try await client.close()
      }()
      try await loop.sleep(for: .seconds(10))
      #expect(client.queuedByteCount + near.unreadByPeer < 300_000)
      var count = 0
      while let bytes = try await server.read() { count += bytes.count }
      #expect(count == 5_000_000)
      try await sent
    }
  }

  @Test("what the handshake settled can be asked for")
  func info() async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server {
      $0.applicationProtocols = ["h2", "http/1.1"]
      $0.clientCertificates = .required(.file(certificates.file("root.pem")))
    }
    let client = try certificates.client {
      $0.applicationProtocols = ["http/1.1", "h2"]
      $0.identity = certificates.identity("client")
    }
    try await run(server: server, client: client) { client, server, _, _ in
      let (near, far) = (await client.info, await server.info)
      #expect(near.version == .tls13 && far.version == .tls13)
      #expect(near.cipher.hasPrefix("TLS_") && near.cipher == far.cipher)
      #expect(near.applicationProtocol == "h2" && far.applicationProtocol == "h2")
      #expect(far.serverName == "www.example.com")
      #expect(near.peerCertificates.count == 1 && far.peerCertificates.count == 1)
      #expect(near.peerCertificates != far.peerCertificates)
      #expect(!near.wasResumed)
    }
  }

  @Test("without a protocol in common there is no connection (RFC 7301 §3.2)")
  func noCommonProtocol() async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server { $0.applicationProtocols = ["h2"] }
    let client = try certificates.client { $0.applicationProtocols = ["http/1.1"] }
    await #expect(throws: TLSError.self) { try await run(server: server, client: client) { _, _, _, _ in } }
  }

  @Test("a session is resumed", arguments: TLSVersion.allCases)
  func resumption(version: TLSVersion) async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server()
    let client = try certificates.client {
      $0.minimumVersion = version
      $0.maximumVersion = version
    }
    for isResumed in [false, true, true] {
      try await run(server: server, client: client) { client, server, _, _ in
        // TLS 1.3 sends sessions behind the handshake.
        try await server.write("hello")
        #expect(try await client.read() == "hello")
        #expect(await client.info.wasResumed == isResumed, "\(version) \(isResumed)")
        try await client.close()
        try await server.close()
      }
    }
  }

  @Test("a server shows the certificate of the name that is asked for, and reads its files anew")
  func severalCertificates() async throws {
    let certificates = try await Certificates.load()
    var options = TLSServerOptions(certificates.identity("good"), certificates.identity("second"))
    let server = try TLSServerContext(options)
    for name in ["www.example.com", "example.com", "second.example", "127.0.0.1"] {
      try await run(server: server, name: name) { _, _, _, _ in }
    }
    await #expect(throws: TLSError.self) { try await run(server: server, name: "third.example") { _, _, _, _ in } }
    options.identities = [certificates.identity("second")]
    try server.reload(options)
    await #expect(throws: TLSError.self) { try await run(server: server) { _, _, _, _ in } }
    try await run(server: server, name: "second.example") { _, _, _, _ in }
    options.identities = [.pem(certificates: .file("/nowhere"), key: .file("/nowhere"))]
    #expect(throws: TLSError.self) { try server.reload(options) }
    try await run(server: server, name: "second.example") { _, _, _, _ in }
  }

  @Test("attack 33: a ClientHello that drips is cut at the time limit, measured from the beginning")
  func drip() async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server { $0.handshakeTimeout = .seconds(5) }
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (near, far) = network.connection()
      let start = loop.now
      let accepting = Task(executorPreference: loop) { try await server.accept(over: far) }
      let hello: [UInt8] = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03]
      let dripping = Task(executorPreference: loop) {
        for byte in hello {
          try await near.write([byte])
          try await loop.sleep(for: .seconds(1))
        }
      }
      await #expect(throws: TLSError.timeout(.seconds(5))) { try await accepting.value }
      #expect(loop.now - start == .seconds(5))
      _ = await dripping.result
    }
  }

  @Test(
    "what is no TLS is refused, and the peer gets an alert or an end",
    arguments: ["GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}"] as [Bytes])
  func noTLS(_ bytes: Bytes) async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server()
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    try await loop.simulate {
      let (near, far) = network.connection()
      let accepting = Task(executorPreference: loop) { try await server.accept(over: far) }
      try await near.write(bytes)
      try await near.close()
      await #expect(throws: TLSError.self) { try await accepting.value }
      while try await near.read() != nil {}
    }
  }

  @Test(
    "what came before a record that is wrong is read first, whether both came in one read or not",
    arguments: [true, false], ["garbage", "no TLS", "end"])
  func recordsBeforeABadOne(inOneRead: Bool, kind: String) async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let socket = try await TCP.connect("127.0.0.1", port: listener.port)
    let accepting = Task {
      let socket = try #require(try await listener.read())
      listener.cancel()
      return try await serverContext.accept(over: socket)
    }
    // TLS leaves the socket beneath it to this test.
    let transport = JoinedStream(reading: socket, writing: Writable { try await socket.write($0) })
    let client = try await clientContext.connect(over: transport.polled(on: UVLoop.shared), to: "www.example.com")
    let server = try await accepting.value
    for text in ["one ", "two ", "three"] as [Bytes] {
      try await client.write(text)
      // A record of its own.
      try await Task.sleep(for: .milliseconds(20))
    }
    func end() async throws {
      switch kind {
      case "garbage": try await socket.write(Bytes([0x17, 3, 3, 0, 32] + [UInt8](repeating: 7, count: 32)))
      case "no TLS": try await socket.write("GET / HTTP/1.1\r\n\r\n")
      default: try await socket.close()
      }
    }
    if inOneRead {
      try await end()
      try await Task.sleep(for: .milliseconds(50))
    }
    var received = ""
    while received.utf8.count < 13 { received += try #require(try await server.read()).string }
    #expect(received == "one two three")
    if !inOneRead { try await end() }
    for _ in 0..<2 { await #expect(throws: TLSError.self) { try await server.read() } }
    socket.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
  }
}
