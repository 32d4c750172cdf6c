import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

#if NIO
  import NIOCore
  import NIOPosix
  import SluiceNIO

  extension ChannelStream {
    /// A connection to a port of its own: the end that accepted, and the one that connected.
    static func connected() async throws -> (ChannelStream, ChannelStream) {
      let group = MultiThreadedEventLoopGroup.singleton
      let accepted = group.any().makePromise(of: ChannelStream.self)
      let listener = try await ServerBootstrap(group: group)
        .childChannelInitializer { add(to: $0).map { accepted.succeed($0) } }
        .bind(host: "127.0.0.1", port: 0).get()
      do {
        let address = try #require(listener.localAddress)
        let client = try await ClientBootstrap(group: group).connect(to: address).flatMap { add(to: $0) }.get()
        let server = try await accepted.futureResult.get()
        try await listener.close()
        return (server, client)
      } catch {
        accepted.fail(error)
        listener.close(promise: nil)
        throw error
      }
    }
  }
#endif

typealias ByteDuplex = any DuplexStream<Bytes, Bytes>

/// A kind of connection that must keep the stream contract: how to make two connected ends of it.
enum StreamPair: String, CaseIterable, CustomTestStringConvertible {
  /// The simple gear.
  case memory
  /// The polled gear, on the simulated loop; whole, and one byte at a time with delay.
  case simulated
  case simulatedInPieces
  case tcp
  case unix
  case abstractUnix
  /// The polled gear, made of the simple one.
  case memoryOnLoop
  case tcpInSimpleGear
  /// TLS over each gear.
  case tls
  case tlsOverMemory
  #if NIO
    /// Channels of SwiftNIO, on event loops of its own.
    case nio
  #endif

  var testDescription: String { rawValue }

  /// Those with the polled gear, and memory of their own for what is written.
  static let polled: [StreamPair] = [.simulated, .tcp, .unix, .tls]

  /// Those with the polled gear, but for the one that takes its time.
  static var onLoop: [StreamPair] {
    var pairs = polled + [.memoryOnLoop, .tlsOverMemory]
    #if NIO
      pairs.append(.nio)
    #endif
    return pairs
  }

  /// Whether an abort looks different from an end to the peer. Unix sockets have no reset.
  var hasReset: Bool { self != .unix && self != .abstractUnix }

  /// Whether the peer can tell a source's failure from its end. A channel of SwiftNIO does not say what the peer has acknowledged, and a
  /// reset before that would lose it.
  var tellsOfFailure: Bool {
    #if NIO
      if self == .nio { return false }
    #endif
    return hasReset
  }

  /// Runs a test with two connected ends; on the loop, if they live on one.
  func run(_ body: @escaping @Sendable (ByteDuplex, ByteDuplex) async throws -> Void) async throws {
    switch self {
    case .memory:
      let (a, b) = MemoryStream<Bytes>.pair()
      try await body(a, b)
    case .simulated, .simulatedInPieces:
      let loop = SimulatedLoop()
      var network = SimulatedNetwork(loop: loop)
      if self == .simulatedInPieces {
        network.pieceSize = 1
        network.delay = .milliseconds(3)
        network.window = 64
      }
      let final = network
      try await loop.simulate {
        let (a, b) = final.connection()
        try await body(a, b)
      }
    case .memoryOnLoop:
      let loop = SimulatedLoop()
      try await loop.simulate {
        let (a, b) = MemoryStream<Bytes>.pair()
        try await body(a.polled(on: loop), b.polled(on: loop))
      }
    case .tls:
      let loop = SimulatedLoop()
      let network = SimulatedNetwork(loop: loop)
      let secure = try await Self.secure(body)
      try await loop.simulate {
        let (a, b) = network.connection()
        try await secure(a, b)
      }
    case .tlsOverMemory:
      let loop = SimulatedLoop()
      let secure = try await Self.secure(body)
      try await loop.simulate {
        let (a, b) = MemoryStream<Bytes>.pair()
        try await secure(a.polled(on: loop), b.polled(on: loop))
      }
    case .tcpInSimpleGear:
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      try await Self.connect(listener, TCP.connect("127.0.0.1", port: listener.port)) { a, b in
        try await body(
          JoinedStream(reading: a, writing: a).polled(on: UVLoop.shared),
          JoinedStream(reading: b, writing: b).polled(on: UVLoop.shared))
      }
    case .tcp:
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      try await Self.connect(listener, TCP.connect("127.0.0.1", port: listener.port), body)
    case .unix, .abstractUnix:
      let name = "sluice-test-\(UInt64.random(in: 0 ... .max))"
      let path = self == .unix ? "/tmp/\(name)" : "@\(name)"
      let listener = try await UnixSocket.listen(path)
      try await Self.connect(listener, UnixSocket.connect(path), body)
    #if NIO
      case .nio:
        let (server, client) = try await ChannelStream.connected()
        try await Self.run(client, server, body)
    #endif
    }
  }

  /// A test in TLS.
  private static func secure(
    _ body: @escaping @Sendable (ByteDuplex, ByteDuplex) async throws -> Void
  ) async throws
    -> @Sendable (any PolledDuplexStream<Bytes, Bytes>, any PolledDuplexStream<Bytes, Bytes>) async throws
    -> Void
  {
    let certificates = try await Certificates.load()
    let (client, server) = (try certificates.client(), try certificates.server())
    return { near, far in
      async let accepted = server.accept(over: far)
      let connected = try await client.connect(over: near, to: "www.example.com")
      try await body(connected, accepted)
    }
  }

  private static func connect(
    _ listener: SocketListener, _ client: SocketStream,
    _ body: @escaping @Sendable (SocketStream, SocketStream) async throws -> Void
  ) async throws {
    let server = try #require(try await listener.read())
    listener.cancel()
    try await run(client, server, body)
  }

  private static func run<Stream: DuplexStream<Bytes, Bytes>>(
    _ client: Stream, _ server: Stream, _ body: @escaping @Sendable (Stream, Stream) async throws -> Void
  ) async throws {
    defer {
      client.abort(StreamError.aborted)
      server.abort(StreamError.aborted)
    }
    try await withTimeLimit { try await body(client, server) }
  }
}

struct TimedOut: Error {}

/// A test that hangs is a test that fails.
func withTimeLimit(_ limit: Duration = .seconds(90), _ body: @escaping @Sendable () async throws -> Void) async throws {
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await Task.sleep(for: limit)
      throw TimedOut()
    }
    try await group.next()
    group.cancelAll()
  }
}

/// Reads until there are so many bytes.
func read(_ count: Int, from stream: ByteDuplex) async throws -> Bytes {
  var builder = BytesBuilder()
  while builder.count < count, let chunk = try await stream.read() { builder.append(chunk) }
  return builder.take()
}

func readAll(_ stream: some ReadableStream<Bytes>) async throws -> Bytes {
  try await stream.collect(limit: 1 << 30)
}
