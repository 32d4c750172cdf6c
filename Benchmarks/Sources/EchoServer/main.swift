// The server that the benchmarks measure: `echo-server [--keepalive] pipe|await|batches|callbacks|transforms|broadcast|compress|tcp [CERTIFICATE KEY]`,
// `files CERTIFICATE KEY FOLDER` or `events shared|shared-gzip|own-gzip SIZE`, prints its port and serves until it is killed; in TLS with a
// certificate. All on one thread.
import Sluice

try UVLoop.runShared {
  var arguments = CommandLine.arguments.dropFirst()
  let keepsAlive = arguments.first == "--keepalive"
  if keepsAlive { arguments.removeFirst() }
  try await run(arguments.first ?? "", Array(arguments.dropFirst()), keepsAlive: keepsAlive)
}

func run(_ mode: String, _ arguments: [String], keepsAlive: Bool) async throws {
  switch mode {
  case "files" where arguments.count == 3:
    var options = HTTPServerOptions()
    options.tls = try context(arguments)
    let server = try await HTTPServer.listen("https://127.0.0.1:0", options: options)
    try await tell(server.port)
    try await server.run(routes: [.files("/*", in: FilePath(arguments[2]))])
  case "events" where arguments.count == 2: try await serveEvents(arguments[0], size: Int(arguments[1]) ?? 100)
  case "tcp":
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    try await tell(listener.port)
    try await withThrowingDiscardingTaskGroup { group in
      while let socket = try await listener.read() {
        group.addTask { try? await socket.pipe(socket) }
      }
    }
  case "pipe", "await", "batches", "callbacks", "transforms", "broadcast", "compress":
    try await serveWebSockets(mode, arguments, keepsAlive: keepsAlive)
  default:
    print(
      """
      usage: echo-server [--keepalive] pipe|await|batches|callbacks|transforms|broadcast|compress|tcp [CERTIFICATE KEY]; echo-server files CERTIFICATE KEY FOLDER; \
      echo-server events shared|shared-gzip|own-gzip SIZE
      """)
  }
}

func serveWebSockets(_ mode: String, _ arguments: [String], keepsAlive: Bool) async throws {
  var options = WebSocketServerOptions()
  options.tls = try context(arguments)
  if keepsAlive {
    options.connection.keepalive = .init()
    options.connection.idleTimeout = .seconds(300)
  }
  if mode == "compress" { options.extensions = [PermessageDeflate()] }
  let server = try await WebSocketServer.listen("\(options.tls == nil ? "ws" : "wss")://127.0.0.1:0", options: options)
  try await tell(server.port)
  switch mode {
  case "await": try await server.run { ws in for try await message in ws { try await ws.send(message) } }
  case "batches":
    try await server.run { ws in for try await batch in ws.batches { try await ws.send(contentsOf: batch) } }
  case "callbacks": try await server.runCallbacks { ws in ws.onMessage { ws.trySend($0) } }
  case "transforms":
    try await server.run { ws in
      try await ws.map { $0 }.pipe(ws.behind(Same()))
    }
  case "broadcast":
    let room = WebSocketBroadcast()
    try await server.run { ws in
      try await room.serve(ws) { for try await message in ws { try await room.write(message) } }
    }
  default: try await server.run { ws in try await ws.pipe(ws) }
  }
}

/// A transform that changes nothing.
struct Same: Transform {
  func transform(_ input: consuming Message, into output: inout TransformOutput<Message>) { output.append(input) }
}

/// For TLS, if a certificate and its key are named.
func context(_ arguments: [String]) throws -> TLSServerContext? {
  guard arguments.count >= 2 else { return nil }
  return try TLSServerContext(
    TLSServerOptions(.pem(certificates: .file(FilePath(arguments[0])), key: .file(FilePath(arguments[1])))))
}

/// Through a stream, which is flushed at once, whatever standard output is.
func tell(_ port: Int) async throws {
  try await StandardStream.output().write(Bytes("\(port)\n"))
}
