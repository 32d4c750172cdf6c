import Sluice

// A server in TLS, with two names, whose certificates are read anew every hour while its connections go on.
func secureServer() async throws {
  let options = TLSServerOptions(
    .pem(certificates: .file("one.example.pem"), key: .file("one.example.key")),
    .pem(certificates: .file("two.example.pem"), key: .file("two.example.key")))
  let certificates = try TLSServerContext(options)
  let renewing = Task {
    while true {
      try await Task.sleep(for: .seconds(3600))
      // Files that are just being written are read the next time.
      do { try certificates.reload(options) } catch { print("the certificates stay as they are: \(error)") }
    }
  }
  defer { renewing.cancel() }
  var server = WebSocketServerOptions()
  server.tls = certificates
  try await WebSocket.serve("wss://0.0.0.0:8443", options: server) { ws in
    try await ws.pipe(ws)
  }
}
