import Sluice
import SluiceServer
import Testing

/// Runs `body` while a server serves, and stops it.
func withServer(
  _ options: HTTPServerOptions = HTTPServerOptions(), routes: [HTTPRoute], _ body: (HTTPServer) async throws -> Void
) async throws {
  let scheme = options.tls == nil ? "http" : "https"
  let server = try await HTTPServer.listen("\(scheme)://127.0.0.1:0", options: options)
  let running = Task { try await server.run(routes: routes) }
  defer { running.cancel() }
  try await body(server)
  running.cancel()
  await #expect(throws: CancellationError.self) { try await running.value }
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
