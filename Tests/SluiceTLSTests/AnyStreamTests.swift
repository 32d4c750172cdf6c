import SluiceClient
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

@Suite("TLS over any stream", .timeLimit(.minutes(3)))
struct AnyStreamTests {
  /// A socket whose polled gear nobody sees.
  private func simple(_ socket: SocketStream) -> some DuplexStream<Bytes, Bytes> {
    JoinedStream(reading: socket, writing: socket)
  }

  @Test("TLS in TLS, over a stream in memory that lives on no loop")
  func nested() async throws {
    let certificates = try await Certificates.load()
    let (server, client) = (try certificates.server(), try certificates.client())
    let (near, far) = MemoryStream<Bytes>.pair()
    let serving = Task {
      let outer = try await server.accept(over: far)
      let inner = try await server.accept(over: JoinedStream(reading: outer, writing: outer))
      try await inner.pipe(inner)
    }
    let outer = try await client.connect(over: near, to: "www.example.com")
    let inner = try await client.connect(
      over: JoinedStream(reading: outer, writing: outer), to: "example.com")
    let sent = Bytes((0..<500_000).map { UInt8(truncatingIfNeeded: $0 &* 13) })
    async let written: Void = {
      try await inner.write(sent)
      try await inner.close()
    }()
    #expect(try await inner.collect(limit: 1 << 20) == sent)
    try await written
    try await serving.value
  }

  @Test("our client and `openssl s_server`, through a stream of the simple gear")
  func openSSLServer() async throws {
    let certificates = try await Certificates.load()
    // The port of a listener that is gone again.
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let port = listener.port
    listener.cancel()
    let server = try await ChildProcess.spawn(
      [
        "timeout", "30", "openssl", "s_server", "-accept", "127.0.0.1:\(port)", "-rev", "-quiet",
        "-cert", certificates.file("good.pem").string, "-key", certificates.file("good.key").string,
      ], errorOutput: .discard)
    defer { server.abort(StreamError.aborted) }
    let socket = try await connect(port)
    let stream = try await certificates.client().connect(over: simple(socket), to: "www.example.com")
    try await stream.write("sluice\n")
    #expect(try await stream.read() == "eciuls\n")
    try await stream.close()
    stream.cancel()
  }

  @Test("our server and `openssl s_client`, through a stream of the simple gear")
  func openSSLClient() async throws {
    let certificates = try await Certificates.load()
    let context = try certificates.server()
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let serving = Task {
      let socket = try #require(try await listener.read())
      let stream = try await context.accept(over: simple(socket))
      try await stream.pipe(stream)
    }
    let client = try await ChildProcess.spawn(
      [
        "timeout", "30", "openssl", "s_client", "-connect", "127.0.0.1:\(listener.port)", "-quiet",
        "-verify_return_error",
        "-CAfile", certificates.file("root.pem").string,
      ], errorOutput: .discard)
    try await client.write("through the simple gear\n")
    #expect(try await client.read() == "through the simple gear\n")
    client.abort(StreamError.aborted)
    listener.cancel()
    _ = await serving.result
  }

  @Test("cancelling a handshake over a stream that says nothing ends it, and the stream")
  func cancelledHandshake() async throws {
    let certificates = try await Certificates.load()
    let context = try certificates.client()
    let (near, far) = MemoryStream<Bytes>.pair()
    let connecting = Task { try await context.connect(over: near, to: "www.example.com") }
    // ClientHello.
    _ = try await far.read()
    connecting.cancel()
    await #expect(throws: CancellationError.self) { try await connecting.value }
    await #expect(throws: CancellationError.self) { try await far.read() }
  }

  private func connect(_ port: Int) async throws -> SocketStream {
    for _ in 0..<100 {
      do { return try await TCP.connect("127.0.0.1", port: port) } catch is IOError {
        try await Task.sleep(for: .milliseconds(50))
      }
    }
    return try await TCP.connect("127.0.0.1", port: port)
  }
}
