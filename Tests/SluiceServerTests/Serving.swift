import Logging
import Sluice
import SluiceServer
import SluiceStreams
import Synchronization
import Testing

/// Runs `body` while a server serves, and stops it.
func withServer(
  _ options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute],
  logger: Logger = Logger(label: "sluice.http.server"), _ body: (HTTPServer) async throws -> Void
) async throws {
  let scheme = options.tls == nil ? "http" : "https"
  let server = try await HTTPServer.listen("\(scheme)://127.0.0.1:0", options: options)
  let running = Task { try await server.run(routes: routes, logger: logger) }
  defer { running.cancel() }
  try await body(server)
  running.cancel()
  await #expect(throws: CancellationError.self) { try await running.value }
}

/// What a server has written into its log, at info and above.
final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }

  var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

  private struct Handler: LogHandler {
    let log: LogLines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let values = (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted().joined(separator: " ")
      log.lines.withLock { $0.append("\(event.level) \(event.message) \(values)") }
    }
  }
}

extension HTTPServer {
  /// What comes back until the server ends the connection, without the dates.
  func exchange(_ pieces: [Bytes]) async throws -> String {
    let socket = try await TCP.connect("127.0.0.1", port: port)
    for piece in pieces { try await socket.write(piece) }
    return try await answers(on: socket)
  }
}

func answers(on socket: some PolledDuplexStream<Bytes, Bytes>) async throws -> String {
  let all = (try await socket.collect(limit: 1 << 26) as Bytes).string
  socket.abort(StreamError.aborted)
  return all.replacing(/Date: ..., .. ... .... ..:..:.. GMT\r\n/, with: "")
}
