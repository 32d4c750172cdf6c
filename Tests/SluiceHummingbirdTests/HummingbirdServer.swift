#if Hummingbird
  import Hummingbird
  import Logging
  import ServiceLifecycle
  import Sluice
  import SluiceHummingbird
  import Testing

  /// An application of Hummingbird's on a port of its own.
  struct HummingbirdServer: Sendable {
    let port: Int
    private let group: ServiceGroup

    func shutDown() async { await group.triggerGracefulShutdown() }

    /// Runs a test against one.
    static func run(
      _ router: Router<BasicRequestContext>, _ body: (HummingbirdServer) async throws -> Void
    ) async throws {
      let (ports, known) = AsyncStream.makeStream(of: Int.self)
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      let app = Application(
        router: router, server: .http1WebSockets(), configuration: .init(address: .hostname("127.0.0.1", port: 0)),
        onServerRunning: { known.yield($0.localAddress?.port ?? 0) }, logger: logger)
      let group = ServiceGroup(services: [app], logger: logger)
      let running = Task { try await group.run() }
      let result: Result<Void, any Error>
      var iterator = ports.makeAsyncIterator()
      let port = try #require(await iterator.next())
      do { result = .success(try await body(HummingbirdServer(port: port, group: group))) } catch {
        result = .failure(error)
      }
      await group.triggerGracefulShutdown()
      running.cancel()
      _ = await running.result
      try result.get()
    }

    var url: String { "ws://127.0.0.1:\(port)" }

    /// What is answered to one request, until the connection ends or the answer holds `end`.
    func answer(to request: String, until end: String = "\r\n\r\n\r\n\r\n") async throws -> String {
      let socket = try await TCP.connect("127.0.0.1", port: port)
      defer { socket.abort(StreamError.aborted) }
      try await socket.write(Bytes(request))
      var answer = ""
      while !answer.contains(end), let chunk = try await socket.read() { answer += chunk.string }
      return answer
    }

    static func upgrade(_ path: String, _ fields: String = "") -> String {
      "GET \(path) HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\(fields)\r\n"
    }
  }
#endif
