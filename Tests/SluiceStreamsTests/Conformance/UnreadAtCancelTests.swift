import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

/// A system answers bytes that nobody reads with a reset, which destroys what the peer has not got yet: a connection that is closed and cancelled reads
/// on for a while, and drops what it reads.
@Suite("Bytes that nobody reads any more", .timeLimit(.minutes(3)))
struct UnreadAtCancelTests {
  enum Kind: CaseIterable {
    case tcp, unix, tls, simulated, simulatedTLS

    var isSimulated: Bool { self == .simulated || self == .simulatedTLS }
  }

  /// When the peer sends what is not read.
  enum Unread: CaseIterable {
    case never, beforeEnd, behindEnd
  }

  typealias End = any PolledDuplexStream<Bytes, Bytes>

  /// Runs a test with two connected ends, on the loop of the first.
  private func run(
    _ kind: Kind, _ body: @escaping @Sendable (End, End, any Loop) async throws -> Void
  ) async throws {
    if kind.isSimulated {
      let loop = SimulatedLoop()
      var network = SimulatedNetwork(loop: loop)
      network.delay = .milliseconds(3)
      network.window = 16 << 10
      let final = network
      let identities = try await Identities()
      return try await loop.simulate {
        let (near, far) = final.connection()
        if kind == .simulated { return try await body(near, far, loop) }
        let (client, server) = try await identities.secure(near, far)
        try await body(client, server, loop)
      }
    }
    let loop = UVLoop.shared
    let listener: SocketListener
    let near: SocketStream
    if kind == .unix {
      let name = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
      listener = try await UnixSocket.listen(name)
      near = try await UnixSocket.connect(name)
    } else {
      listener = try await TCP.listen("127.0.0.1", port: 0)
      near = try await TCP.connect("127.0.0.1", port: listener.port)
    }
    let far = try #require(try await listener.read())
    listener.cancel()
    defer { for end in [near, far] { end.abort(StreamError.aborted) } }
    try await withTimeLimit {
      try await withTaskExecutorPreference(loop) {
        guard kind == .tls else { return try await body(near, far, loop) }
        let (client, server) = try await Identities().secure(near, far)
        try await body(client, server, loop)
      }
    }
  }

  private struct Identities: Sendable {
    let client: TLSClientContext
    let server: TLSServerContext

    init() async throws {
      let certificates = try await Certificates.load()
      client = try certificates.client()
      server = try certificates.server()
    }

    func secure(_ near: some PolledDuplexStream<Bytes, Bytes>, _ far: some PolledDuplexStream<Bytes, Bytes>)
      async throws
      -> (TLSStream, TLSStream)
    {
      async let accepted = server.accept(over: far)
      let connected = try await client.connect(over: near, to: "www.example.com")
      return (connected, try await accepted)
    }
  }

  @Test(
    "who closes and cancels with bytes unread does not keep the peer from what was written, nor from a good end",
    arguments: Kind.allCases, Unread.allCases)
  func unread(_ kind: Kind, _ unread: Unread) async throws {
    for cancelsFirst in [true, false] {
      try await run(kind) { near, far, loop in
        let junk = Bytes([UInt8](repeating: 7, count: 10_000))
        let last = Bytes((0..<400_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        if unread == .beforeEnd {
          try await far.write(junk)
          try await loop.sleep(for: .milliseconds(30))
        }
        // The reader takes its time: most of it is still on its way when the near end is over.
        let received = Task(executorPreference: loop) {
          try await loop.sleep(for: .milliseconds(100))
          return try await readAll(far)
        }
        if cancelsFirst {
          near.cancel(nil)
          try await near.write(last)
          try await near.close()
        } else {
          try await near.write(last)
          try await near.close()
          near.cancel(nil)
        }
        if unread == .behindEnd { try await far.write(junk) }
        #expect(try await received.value == last)
        try await far.close()
      }
    }
  }

  @Test("a connection is gone as soon as the peer has ended", arguments: Kind.allCases.filter { !$0.isSimulated })
  func endsWithPeer(_ kind: Kind) async throws {
    try await run(kind) { near, far, loop in
      try await near.close()
      near.cancel(nil)
      #expect(try await far.read() == nil)
      try await far.close()
      let start = loop.now
      let connection = try #require(near as? any LingeringConnection)
      let waiter = LoopWaiter()
      connection.whenGone { waiter.wake() }
      try await waiter.wait(on: loop)
      #expect(loop.now - start < .seconds(1))
    }
  }
}
