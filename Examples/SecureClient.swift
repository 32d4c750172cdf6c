import Sluice

// A client that gets through: TLS with roots of its own, a proxy, credentials, time limits.
func secureClient() async throws {
  var tls = TLSClientOptions()
  tls.trust = .file("ca.pem")
  tls.identity = .pem(certificates: .file("client.pem"), key: .file("client.key"), passphrase: "secret")
  tls.minimumVersion = .tls13

  var options = WebSocketClientOptions()
  options.tls = try TLSClientContext(tls)
  options.proxy = .through(try Proxy("http://user:password@proxy.example:3128"))
  options.headers = ["Authorization": "Bearer …", "Cookie": "session=7"]
  options.maxRedirects = 3
  options.timeout = .seconds(20)
  options.stepTimeouts = [.connect: .seconds(5), .proxy: .seconds(5)]
  options.tcp.family = .ipv4
  let ws = try await WebSocket.connect("wss://example.com/feed", protocols: ["ticks"], options: options)
  try await ws.pipe(File.append("feed.log").messages(.lines))
}

// A client that comes back, and goes on where it was.
func comingBack() async throws {
  let last = LastMessage()
  var reconnect = ReconnectOptions()
  reconnect.prepare = { attempt in
    if let id = await last.id { attempt.url = "wss://example.com/feed?after=\(id)" }
  }
  try await WebSocket.reconnecting("wss://example.com/feed", reconnect: reconnect) { ws in
    for try await message in ws { await last.remember(message.text) }
  }
}

private actor LastMessage {
  private(set) var id: String?
  func remember(_ text: String) { id = String(text.prefix { $0 != " " }) }
}

// One pipe over as many connections as it takes.
func shippingLog() async throws {
  let log = WebSocket.reconnecting("wss://logs.example/app")
  try await bridge(StandardIO().messages(.lines), log)
}
