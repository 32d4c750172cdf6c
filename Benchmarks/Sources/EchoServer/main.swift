// The server that the echo benchmark measures: `echo-server pipe|await|compress|tcp` prints its port and serves until it is killed.
import Sluice

switch CommandLine.arguments.dropFirst().first {
case "pipe": try await serve { ws in try await ws.pipe(ws) }
case "await": try await serve { ws in for try await message in ws { try await ws.send(message) } }
case "compress":
  var options = WebSocketServerOptions()
  options.extensions = [PermessageDeflate()]
  try await serve(options) { ws in try await ws.pipe(ws) }
case "tcp":
  let listener = try await TCP.listen("127.0.0.1", port: 0)
  try await tell(listener.port)
  try await withThrowingDiscardingTaskGroup { group in
    while let socket = try await listener.read() {
      group.addTask(executorPreference: UVLoop.shared) { try? await socket.pipe(socket) }
    }
  }
default: print("usage: echo-server pipe|await|compress|tcp")
}

func serve(
  _ options: WebSocketServerOptions = WebSocketServerOptions(),
  _ handler: @escaping @Sendable (WebSocket) async throws -> Void
) async throws {
  let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
  try await tell(server.port)
  try await server.run(handler)
}

/// Through a stream, which is flushed at once, whatever standard output is.
func tell(_ port: Int) async throws {
  try await StandardStream.output().write(Bytes("\(port)\n"))
}
