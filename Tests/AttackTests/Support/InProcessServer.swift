import Logging
import Sluice

/// An echo server in this process, where what it costs is not asked.
struct InProcessServer {
  let port: Int
  private let running: Task<Void, any Error>

  static func start(
    _ options: WebSocketServerOptions = WebSocketServerOptions(),
    handler: @escaping @Sendable (WebSocket) async throws -> Void = { ws in try await ws.pipe(ws) }
  ) async throws -> InProcessServer {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
    let quiet = Logger(label: "attacks") { _ in SwiftLogNoOpLogHandler() }
    return InProcessServer(port: server.port, running: Task { try await server.run(logger: quiet, handler) })
  }

  var url: String { "ws://127.0.0.1:\(port)" }

  func connect() async throws -> Attacker { Attacker(socket: try await TCP.connect("127.0.0.1", port: port)) }

  /// A connection whose opening handshake is done, with more fields in the request.
  /// - Returns: also the head of the response.
  func open(_ fields: String...) async throws -> (attacker: Attacker, head: String) {
    let attacker = try await connect()
    try await attacker.send(Attacker.handshake(adding: fields))
    return (attacker, try await attacker.receiveHead())
  }

  func stop() { running.cancel() }
}
