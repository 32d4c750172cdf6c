import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import SystemPackage
import Testing

/// What a source gave before it failed arrives, whatever the source, the failure, the sink and its pace: every source against every sink.
@Suite("A source that fails behind data", .timeLimit(.minutes(3)))
struct FailingSourceTests {
  /// More than the system buffers between two sockets, in lines that are long enough to be few.
  private static let lines = (0..<4000).map { "line \($0) \(String(repeating: "x", count: 110))\n" }.joined()

  @Test(
    "a pipe delivers all that the source gave, and throws why it failed", arguments: FailingSource.allCases,
    FailureSink.allCases)
  func pipe(_ source: FailingSource, _ sink: FailureSink) async throws {
    for pace in Pace.allCases { try await deliver(source, sink, pace) { try await $0.pipe($1) } }
  }

  @Test(
    "a bridge delivers all that the source gave, and throws why it failed",
    arguments: [FailingSource.closure, .tls, .exitStatus], FailureSink.allCases)
  func bridge(_ source: FailingSource, _ sink: FailureSink) async throws {
    try await deliver(source, sink, .slow) { source, sink in
      try await SluiceStreams.bridge(
        JoinedStream(reading: source, writing: Writable<Bytes> { _ in }),
        JoinedStream(reading: SequenceStream<Bytes>([]), writing: sink))
    }
  }

  private func deliver(
    _ source: FailingSource, _ sink: FailureSink, _ pace: Pace,
    _ connect: @escaping @Sendable (AnyReadable<Bytes>, AnyWritable<Bytes>) async throws -> Void
  ) async throws {
    try await withTimeLimit {
      let content = Bytes(Self.lines)
      let (sink, received) = try await sink.open(pace)
      let failing = try await source.open(content)
      async let all = received()
      await #expect(throws: (any Error).self) { try await connect(AnyReadable(failing), AnyWritable(sink)) }
      let bytes = try await all
      #expect(bytes.count == content.count)
      #expect(bytes == content)
    }
  }

  @Test("a sink that takes nothing for the time is aborted", arguments: [FailureSink.tcp, .tls, .memoryOnLoop])
  func stall(_ kind: FailureSink) async throws {
    try await withTimeLimit {
      guard let sink = try await kind.open(.fast).0 as? any PolledWritableStream<Bytes> else { return }
      // Nobody reads: there is no room in the system any more, and something is still queued here.
      try await fill(sink)
      var options = PipeOptions()
      options.stallTimeout = .milliseconds(300)
      let start = ContinuousClock.now
      await #expect(throws: TestError.reason) {
        try await self.pipe(Readable { throw TestError.reason }, into: sink, options)
      }
      let time = ContinuousClock.now - start
      #expect(time >= .milliseconds(300) && time < .seconds(20))
      // It has gone: TLS says so of what is beneath.
      await #expect(throws: (any Error).self) { try await sink.loop.run { try sink.hasRoom() } }
    }
  }

  private func fill(_ sink: some PolledWritableStream<Bytes>) async throws {
    var lastCount = -1
    var count = 0
    while count != lastCount {
      lastCount = count
      count += try await sink.loop.run {
        var pushed = 0
        while try sink.hasRoom() {
          try sink.push(Bytes([UInt8](repeating: 7, count: 4096)))
          sink.flush()
          pushed += 1
        }
        return pushed
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  @Test("a transform that throws ends its sink behind what it gave before", arguments: FailureSink.allCases)
  func failingTransform(_ kind: FailureSink) async throws {
    try await withTimeLimit {
      let (sink, received) = try await kind.open(.slow)
      async let all = received()
      let source = SequenceStream((0..<5000).map { Bytes("\($0)\n") })
      await #expect(throws: TestError.reason) { try await self.pipe(source, behind: sink) }
      #expect(try await all == Bytes((0..<4000).map { "\($0)\n" }.joined()))
    }
  }

  private func pipe(_ source: some ReadableStream<Bytes>, behind sink: some WritableStream<Bytes>) async throws {
    try await source.pipe(
      sink.behind(
        ElementTransform { chunk, output in
          if chunk == "4000\n" { throw TestError.reason }
          output.append(chunk)
        }))
  }

  private func pipe(
    _ source: some ReadableStream<Bytes>, into sink: some WritableStream<Bytes>, _ options: PipeOptions
  ) async throws {
    try await source.pipe(sink, options: options)
  }
}

/// How fast the sink's other end reads.
enum Pace: CaseIterable {
  case fast, slow
}

/// A source that gives something and fails.
enum FailingSource: String, CaseIterable, CustomTestStringConvertible {
  case closure
  case memory
  /// The peer says that its own source has failed.
  case tcp
  /// FIN without close_notify.
  case tls
  case exitStatus
  case signal
  /// An operator throws.
  case throwingOperator
  /// The last line has no end when the source fails.
  case lines
  case tee

  var testDescription: String { rawValue }

  func open(_ content: Bytes) async throws -> any ReadableStream<Bytes> {
    switch self {
    case .closure: return chunks(of: content)
    case .memory:
      let (near, far) = MemoryStream<Bytes>.pair()
      feed(near, content)
      return far
    case .tcp:
      let (near, far) = try await connectedSockets()
      feed(near, content)
      return far
    case .tls:
      let (near, far) = try await connectedInTLS()
      feed(near, content)
      return far
    case .exitStatus, .signal:
      let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
      try await SequenceStream([content]).pipe(try await File.create(FilePath(path)))
      return try await ChildProcess.shell("cat \(path); rm \(path); \(self == .signal ? "kill -9 $$" : "exit 3")")
    case .throwingOperator:
      return chunks(of: content, throws: false).map { if $0.isEmpty { throw TestError.reason } else { $0 } }
    case .lines:
      let last = content.dropLast()
      return chunks(of: last).lines.map { Bytes($0 + "\n") }
    case .tee: return chunks(of: content).tee(.wait)[0]
    }
  }

  /// - Parameter throws: Whether it fails behind them; otherwise an empty chunk comes.
  private func chunks(of content: Bytes, throws: Bool = true) -> Readable<Bytes> {
    let position = Counter()
    return Readable {
      let chunk = content.dropFirst(position.value).prefix(8 << 10)
      if chunk.isEmpty, `throws` { throw TestError.reason }
      position.add(chunk.count)
      return chunk
    }
  }

  private func feed(_ stream: some WritableStream<Bytes>, _ content: Bytes) {
    Task {
      var rest = content
      while !rest.isEmpty {
        try await stream.write(rest.prefix(8 << 10))
        rest = rest.dropFirst(8 << 10)
      }
      try await stream.close(after: TestError.reason)
    }
  }
}

/// A sink whose other end is read to its end.
enum FailureSink: String, CaseIterable, CustomTestStringConvertible {
  case memory
  case memoryOnLoop
  case tcp
  case unix
  case tls
  case file
  case command
  case transformed
  case reconnecting

  var testDescription: String { rawValue }

  typealias Received = @Sendable () async throws -> Bytes

  func open(_ pace: Pace) async throws -> (any WritableStream<Bytes>, Received) {
    switch self {
    case .memory:
      let (near, far) = MemoryStream<Bytes>.pair()
      return (near, reading(far, pace))
    case .memoryOnLoop:
      let (near, far) = MemoryStream<Bytes>.pair()
      return (near.polled(on: UVLoop.shared), reading(far, pace))
    case .tcp:
      let (near, far) = try await connectedSockets()
      return (near, reading(far, pace))
    case .unix:
      let path = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
      let listener = try await UnixSocket.listen(path)
      let near = try await UnixSocket.connect(path)
      let far = try #require(try await listener.read())
      listener.cancel()
      return (near, reading(far, pace))
    case .tls:
      let (near, far) = try await connectedInTLS()
      return (near, reading(far, pace))
    case .file:
      let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
      let file = try await File.create(FilePath(path))
      return (file, content(of: path, after: { try await untilClosed(file) }))
    case .command:
      let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
      let command = try await ChildProcess.shell("\(pace == .slow ? "sleep 0.06; " : "")cat > \(path)")
      return (command, content(of: path, after: { _ = try await command.waitForExit() }))
    case .transformed:
      let (near, far) = try await connectedSockets()
      return (near.behind(ElementTransform<Bytes, Bytes> { $1.append($0) }), reading(far, pace))
    case .reconnecting:
      let (near, far) = try await connectedSockets()
      let connections = SequenceStream<any PolledDuplexStream<Bytes, Bytes>>([near])
      let stream = ReconnectingStream<Bytes, Bytes>(over: connections, resumingAt: .byte, on: UVLoop.shared)
      return (stream, reading(far, pace))
    }
  }

  private func content(of path: String, after end: @escaping @Sendable () async throws -> Void) -> Received {
    {
      try await end()
      let content = try await FileContents.read(FilePath(path))
      _ = try await ChildProcess.shell("rm \(path)").waitForExit()
      return content
    }
  }

  private func untilClosed(_ file: File) async throws {
    while true {
      do { if try await !file.loop.run({ try file.hasRoom() }) {} } catch StreamError.closed { return }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// What comes, up to the end or the failure that the sink tells of.
  private func reading(_ stream: some ReadableStream<Bytes>, _ pace: Pace) -> Received {
    {
      if pace == .slow { try await Task.sleep(for: .milliseconds(60)) }
      var all = BytesBuilder()
      do {
        while let chunk = try await stream.read() {
          all.append(chunk)
          if pace == .slow { try await Task.sleep(for: .microseconds(200)) }
        }
      } catch {}
      return all.take()
    }
  }
}

private func connectedSockets() async throws -> (SocketStream, SocketStream) {
  let listener = try await TCP.listen("127.0.0.1", port: 0)
  let near = try await TCP.connect("127.0.0.1", port: listener.port)
  let far = try #require(try await listener.read())
  listener.cancel()
  return (near, far)
}

private func connectedInTLS() async throws -> (TLSStream, TLSStream) {
  let certificates = try await Certificates.load()
  let (client, server) = (try certificates.client(), try certificates.server())
  let (near, far) = try await connectedSockets()
  async let accepted = server.accept(over: far)
  let connected = try await client.connect(over: near, to: "www.example.com")
  return (connected, try await accepted)
}
