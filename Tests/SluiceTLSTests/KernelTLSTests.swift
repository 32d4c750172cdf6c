import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// On a system without kernel TLS the same is to work without it; `scripts/kernel-tls` runs these on systems that have it.
@Suite("kernel TLS", .timeLimit(.minutes(3)))
struct KernelTLSTests {
  private let loop: UVLoop

  init() throws { loop = try UVLoop(name: "kernel-tls") }

  private struct Connection {
    let server: TLSStream
    let client: TLSStream
    let support: EncryptionSupport

    func isSentByKernel(_ version: TLSVersion) -> Bool {
      switch support {
      case .none: false
      case .fixedKeys: version == .tls12
      case .changingKeys: true
      }
    }
  }

  private func connect(
    clientAllows: Bool = true, _ change: (inout TLSCommonOptions) -> Void = { _ in }
  ) async throws -> Connection {
    let certificates = try await Certificates.load()
    let server = try certificates.server { change(&$0.common) }
    let client = try certificates.client {
      $0.allowsKernel = clientAllows
      change(&$0.common)
    }
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    defer { listener.cancel() }
    async let accepted = listener.read()
    let near = try await TCP.connect("127.0.0.1", port: listener.port, on: loop)
    let far = try #require(try await accepted)
    async let serving = server.accept(over: far)
    let stream = try await client.connect(over: near, to: "www.example.com")
    return Connection(server: try await serving, client: stream, support: near.encryptionSupport)
  }

  static let suites: [(TLSVersion, String)] = [
    (.tls12, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"),
    (.tls12, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"),
    (.tls12, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"),
    (.tls13, "TLS_AES_128_GCM_SHA256"), (.tls13, "TLS_AES_256_GCM_SHA384"), (.tls13, "TLS_CHACHA20_POLY1305_SHA256"),
  ]

  private func choose(_ suite: (TLSVersion, String)) -> (inout TLSCommonOptions) -> Void {
    { options in
      (options.minimumVersion, options.maximumVersion) = (suite.0, suite.0)
      if suite.0 == .tls12 { options.ciphers = suite.1 } else { options.cipherSuites = suite.1 }
    }
  }

  @Test("bytes go both ways, small and many, and each half ends by itself", arguments: suites)
  func echo(suite: (TLSVersion, String)) async throws {
    let connection = try await connect(choose(suite))
    let isExpected = connection.isSentByKernel(suite.0)
    #expect(await connection.client.info.isSentByKernel == isExpected)
    #expect(await connection.server.info.isSentByKernel == isExpected)
    async let served: Void = connection.server.pipe(connection.server)
    for size in [1, 100, 16 << 10, 300_000] {
      let bytes = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) })
      async let sent: Void = connection.client.write(bytes)
      var received = BytesBuilder()
      while received.count < size { received.append(try #require(try await connection.client.read())) }
      try await sent
      #expect(received.take() == bytes)
    }
    // close_notify, behind what was written.
    try await connection.client.write("the end")
    try await connection.client.close()
    #expect(try await connection.client.read() == "the end")
    #expect(try await connection.client.read() == nil)
    try await served
    loop.stop()
  }

  @Test("it is not used where the options do not allow it")
  func notAllowed() async throws {
    let connection = try await connect { $0.allowsKernel = false }
    #expect(await connection.client.info.isSentByKernel == false)
    #expect(await connection.server.info.isSentByKernel == false)
    connection.client.abort(StreamError.aborted)
    await #expect(throws: (any Error).self) { try await connection.server.read() }
    loop.stop()
  }

  @Test(
    "a reader that stops stops the sender, and what is said at the end comes behind everything",
    arguments: TLSVersion.allCases)
  func backpressure(version: TLSVersion) async throws {
    let connection = try await connect { ($0.minimumVersion, $0.maximumVersion) = (version, version) }
    let block = Bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0) })
    let (server, client) = (connection.server, connection.client)
    let sending = Task {
      for _ in 0..<80 { try await client.write(block) }
      try await client.close()
    }
    try await Task.sleep(for: .milliseconds(300))
    #expect(try await loop.run { client.queuedByteCount } < 300_000)
    var count = 0
    while let bytes = try await server.read() { count += bytes.count }
    #expect(count == 8_000_000)
    try await sending.value
    server.abort(StreamError.aborted)
    loop.stop()
  }

  @Test(
    "keys are changed when the peer asks for it (RFC 8446 §4.6.3), also while data waits to be sent",
    arguments: [true, false])
  func keyUpdates(clientAllows: Bool) async throws {
    let connection = try await connect(clientAllows: clientAllows) { $0.minimumVersion = .tls13 }
    let (server, client) = (connection.server, connection.client)
    let all = Bytes((0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 3) })
    let pieces = 3
    for round in 0..<4 {
      let sending = Task {
        for _ in 0..<pieces { try await server.write(all) }
      }
      // What the server sends has filled the system's buffers, in the rounds after the first.
      if round > 0 { try await Task.sleep(for: .milliseconds(100)) }
      try await client.updateKeys()
      try await client.write("new keys, please")
      // The server comes to the question when it reads.
      var request = BytesBuilder()
      while request.count < 16 { request.append(try #require(try await server.read())) }
      var received = BytesBuilder()
      while received.count < pieces * all.count {
        let bytes = try #require(try await client.read())
        received.append(bytes)
      }
      let bytes = received.take()
      unsafe bytes.withUnsafeBytes { got in
        unsafe all.withUnsafeBytes { wanted in
          for piece in 0..<pieces {
            let start = piece * wanted.count
            #expect(unsafe memcmp(got.baseAddress! + start, wanted.baseAddress!, wanted.count) == 0)
          }
        }
      }
      try await sending.value
    }
    try await server.close()
    #expect(try await client.read() == nil)
    client.abort(StreamError.aborted)
    loop.stop()
  }

  @Test("a peer that asks for new keys again and again, and reads no answer, is not read either")
  func keyUpdateFlood() async throws {
    let connection = try await connect { $0.minimumVersion = .tls13 }
    let (server, client) = (connection.server, connection.client)
    let block = Bytes([UInt8](repeating: 1, count: 100_000))
    let sending = Task {
      while true { try await server.write(block) }
    }
    let reading = Task {
      while try await server.read() != nil {}
    }
    try await Task.sleep(for: .milliseconds(300))
    for _ in 0..<2_000 { try await client.updateKeys() }
    try await Task.sleep(for: .milliseconds(300))
    #expect(try await loop.run { server.queuedByteCount } < 400_000)
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    _ = await (sending.result, reading.result)
    loop.stop()
  }

  @Test("a connection that ends without close_notify is told from one that was ended")
  func truncated() async throws {
    let connection = try await connect()
    connection.server.abort(StreamError.aborted)
    await #expect(throws: (any Error).self) { try await connection.client.read() }
    connection.client.abort(StreamError.aborted)
    loop.stop()
  }
}
