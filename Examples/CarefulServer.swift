import Sluice

// A server for browsers and strangers: compression, origins, limits and times.
func carefulServer() async throws {
  var options = WebSocketServerOptions()
  options.protocols = ["chat.v2", "chat.v1"]
  options.extensions = [PermessageDeflate()]
  options.origins = .only("https://example.com", "https://*.example.com")
  options.versions = [.hybi13]
  options.handshakeTimeout = .seconds(5)
  options.maxConnections = 20_000
  options.maxConnectionsPerAddress = 50
  options.connection.maxMessageSize = 1 << 20
  options.connection.keepalive = .init(interval: .seconds(30), timeout: .seconds(15))
  options.connection.idleTimeout = .seconds(600)
  try await WebSocket.serve("ws://127.0.0.1:8000", options: options) { ws in
    try await ws.pipe(ws)
  }
}
