import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

/// Runs a server of event streams for as long as `body` takes.
func servingEvents(
  _ options: EventSourceServerOptions = EventSourceServerOptions(), tls: TLSServerContext? = nil,
  path: String = "/feed",
  _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void,
  _ body: (EventSourceServer) async throws -> Void
) async throws {
  let scheme = tls == nil ? "http" : "https"
  var serving = HTTPServerOptions()
  serving.tls = tls
  serving.shutdownTimeout = .milliseconds(50)
  let server = try await EventSourceServer.listen(
    "\(scheme)://127.0.0.1:0\(path)", options: options, server: serving)
  let running = Task { try await server.run(handler) }
  try await body(server)
  running.cancel()
  await #expect(throws: CancellationError.self) { try await running.value }
}

/// Without a time to come back in.
var unhurried: EventSourceServerOptions {
  var options = EventSourceServerOptions()
  options.retry = nil
  return options
}

/// What a server says to a request, to the end, when its handler sends one event.
func answer(_ request: String, _ options: EventSourceServerOptions = EventSourceServerOptions()) async throws
  -> String
{
  var answer = ""
  try await servingEvents(options) { events in
    try await events.send("hello", id: "1")
  } _: { server in
    let socket = try await TCP.connect("127.0.0.1", port: server.port)
    try await socket.write(Bytes(request))
    while let chunk = try await socket.read() { answer += chunk.string }
    try await socket.close()
  }
  return answer
}
