// The server that the benchmarks measure: `echo-server pipe|await|callbacks|broadcast|compress|tcp [CERTIFICATE KEY]`, `files CERTIFICATE KEY FOLDER` or
// `events shared|shared-gzip|own-gzip SIZE`, prints its port and serves until it is killed; in TLS with a certificate.
import Sluice

let arguments = Array(CommandLine.arguments.dropFirst(2))
let tls: TLSServerContext? =
  if arguments.count >= 2, CommandLine.arguments[1] != "events" {
    try TLSServerContext(
      TLSServerOptions(.pem(certificates: .file(FilePath(arguments[0])), key: .file(FilePath(arguments[1])))))
  } else { nil }

switch CommandLine.arguments.dropFirst().first {
case "pipe": try await serve { ws in try await ws.pipe(ws) }
case "await": try await serve { ws in for try await message in ws { try await ws.send(message) } }
case "callbacks":
  try await listen().runEvents { ws in ws.onMessage { ws.trySend($0) } }
case "broadcast":
  let room = WebSocketBroadcast()
  try await serve { ws in
    try await room.serve(ws) { for try await message in ws { try await room.write(message) } }
  }
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
case "files" where arguments.count == 3:
  var options = HTTPServerOptions()
  options.tls = tls
  let server = try await HTTPServer.listen("https://127.0.0.1:0", options: options)
  try await tell(server.port)
  try await server.run(routes: [.files("/*", in: FilePath(arguments[2]))])
case "events" where arguments.count == 2: try await serveEvents(arguments[0], size: Int(arguments[1]) ?? 100)
default:
  print(
    """
    usage: echo-server pipe|await|callbacks|broadcast|compress|tcp [CERTIFICATE KEY]; echo-server files CERTIFICATE KEY FOLDER; \
    echo-server events shared|shared-gzip|own-gzip SIZE
    """)
}

func serve(
  _ options: WebSocketServerOptions = WebSocketServerOptions(),
  _ handler: @escaping @Sendable (WebSocket) async throws -> Void
) async throws {
  try await listen(options).run(handler)
}

func listen(_ options: WebSocketServerOptions = WebSocketServerOptions()) async throws -> WebSocketServer {
  var options = options
  options.tls = tls
  let server = try await WebSocketServer.listen("\(tls == nil ? "ws" : "wss")://127.0.0.1:0", options: options)
  try await tell(server.port)
  return server
}

/// Through a stream, which is flushed at once, whatever standard output is.
func tell(_ port: Int) async throws {
  try await StandardStream.output().write(Bytes("\(port)\n"))
}
