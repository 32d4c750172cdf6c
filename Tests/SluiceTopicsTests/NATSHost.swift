#if NATS
  import Sluice
  import SluiceIO
  import SluiceTopics
  import Synchronization
  import Testing

  @testable import SluiceTopicsNATS

  /// A nats-server of a test's own, with JetStream in a folder of its own.
  final class NATSHost: EngineHost {
    let folder: String
    private let arguments: [String]
    private let process = Mutex<ChildProcess?>(nil)
    private let ports = Mutex<(client: Int, monitoring: Int)>((-1, -1))

    var port: Int { ports.withLock { $0.client } }
    var url: String { "nats://127.0.0.1:\(port)" }

    private init(_ folder: String, _ arguments: [String]) {
      self.folder = folder
      self.arguments = arguments
    }

    /// - Parameters:
    ///   - configuration: Of the server, beside its ports and folder.
    ///   - hasJetStream: With a store in the folder.
    static func start(_ configuration: String = "", hasJetStream: Bool = true) async throws -> NATSHost {
      let folder = "/tmp/sluice-nats-\(UInt64.random(in: 0 ... .max))"
      try await shell("mkdir -m 700 \(folder) && cat >\(folder)/conf <<'END'\n\(configuration)\nEND")
      let host = NATSHost(folder, hasJetStream ? ["-js", "-sd", folder + "/store"] : [])
      try await host.begin()
      return host
    }

    /// Runs a test with a server.
    static func run(
      _ configuration: String = "", hasJetStream: Bool = true, _ body: (NATSHost) async throws -> Void
    ) async throws {
      let host = try await start(configuration, hasJetStream: hasJetStream)
      do { try await body(host) } catch {
        await host.stop()
        throw error
      }
      await host.stop()
    }

    @discardableResult
    static func shell(_ command: String) async throws -> String {
      let process = try await ChildProcess.spawn(["sh", "-c", command])
      try await process.close()
      let output = try await process.collect(limit: 1 << 20)
      #expect(try await process.waitForExit() == nil)
      return output.string
    }

    /// Starts the server, again perhaps: with what it has on disk, and the ports that it had.
    func begin() async throws {
      let (client, monitoring) = ports.withLock { $0 }
      let child = try await ChildProcess.spawn(
        [
          "nats-server", "-c", "\(folder)/conf", "-a", "127.0.0.1", "-p", "\(client)", "-m", "\(monitoring)",
          "--ports_file_dir", folder, "-l", "\(folder)/log",
        ] + arguments)
      process.withLock { $0 = child }
      for _ in 0..<500 {
        if client < 0 {
          let text = try await Self.shell("cat \(folder)/*.ports 2>/dev/null || true")
          if let found = Self.port(in: text, behind: "\"nats\""),
            let other = Self.port(in: text, behind: "\"monitoring\"")
          {
            ports.withLock { $0 = (found, other) }
          }
        }
        if port > 0, let stream = try? await TCP.connect("127.0.0.1", port: port) {
          let greeting = try? await stream.read()
          stream.abort()
          if greeting != nil { return }
        }
        try await Task.sleep(for: .milliseconds(10))
      }
      throw TopicError.unavailable("nats-server does not start")
    }

    private static func port(in ports: String, behind name: String) -> Int? {
      guard let start = ports.firstRange(of: name)?.upperBound,
        let colons = ports[start...].firstRange(of: "127.0.0.1:")?.upperBound
      else { return nil }
      return Int(ports[colons...].prefix { $0.isNumber })
    }

    /// Stands still, until `go`.
    func halt() { signal(Signal(number: 19)) }
    func go() { signal(.continue) }

    private func signal(_ signal: Signal) { process.withLock { $0 }?.send(signal) }

    func kill() async throws {
      let child = process.withLock { $0 }
      child?.send(.kill)
      _ = try await child?.waitForExit()
    }

    func connect(_ options: TopicsOptions) async throws -> Topics { try await connect(NATSOptions(), options) }

    func connect(_ nats: NATSOptions, _ options: TopicsOptions = TopicsOptions()) async throws -> Topics {
      try await Topics.nats(url, nats: nats, options: options)
    }

    /// Asks JetStream, on a connection of its own.
    @discardableResult
    func ask(_ request: String, _ payload: String = "") async throws -> NATSValue {
      let server = try NATSServer(url, NATSOptions())
      let connection = try await NATSConnection.open(server.hosts[0], of: server)
      defer { connection.close() }
      let answer = try await connection.ask("$JS.API." + request, payload)
      if let error = NATSError(answer) { throw error }
      return answer
    }

    /// Connections that the server has.
    func connectionCount() async throws -> Int {
      let stream = try await TCP.connect("127.0.0.1", port: ports.withLock { $0.monitoring })
      try await stream.write("GET /connz HTTP/1.0\r\n\r\n")
      let answer = try await stream.collect(limit: 1 << 20).string
      guard let start = answer.firstRange(of: "\r\n\r\n")?.upperBound,
        let count = NATSValue(Bytes(answer[start...]))?["num_connections"]?.number
      else { throw TopicError.unavailable("connz: \(answer)") }
      return Int(count)
    }

    func wipe(_ topic: String) async throws { try await ask("STREAM.DELETE.sluice_" + topic) }

    func stop() async {
      guard let child = process.withLock({ $0 }) else { return }
      child.send(.continue)
      child.send(.kill)
      _ = try? await child.waitForExit()
      _ = try? await Self.shell("rm -r \(folder)")
    }
  }

  extension EngineUnderTest {
    static let nats = EngineUnderTest(testDescription: "nats") { try await NATSHost.start() }
  }
#endif
