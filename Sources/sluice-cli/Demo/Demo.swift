import Sluice

/// What the page of `sluice demo` talks to.
final class Demo: Sendable {
  private let room = WebSocketBroadcast()
  private let ticks = Ticks()
  /// What it shares with other demos; nil if it is alone.
  private let shared: SharedDemo?
  private let terminal: DemoTerminal?

  init(sharing shared: SharedDemo? = nil, _ terminal: DemoTerminal? = nil) {
    self.shared = shared
    self.terminal = terminal
  }

  var routes: [HTTPRoute] {
    var routes: [HTTPRoute] = [
      .webSocket("/echo", options: options("echo")) { ws in try await self.echo(ws) },
      .webSocket("/playground", options: options("playground")) { ws in try await Playground().run(ws) },
    ]
    if let terminal { routes.append(terminal.route(options(TerminalProtocol.name))) }
    let panels = [shared == nil ? nil : "shared", terminal == nil ? nil : "terminal"].compactMap { $0 }
    let page = String(decoding: PackageResources.page_html, as: UTF8.self).replacing(
      "<body>", with: "<body class=\"\(panels.joined(separator: " "))\">", maxReplacements: 1)
    if let shared {
      routes += [
        .page("/", Bytes(page)),
        .webSocket("/room", options: options("room")) { ws in try await shared.join(ws) },
        .webSocket("/control", options: options("control")) { ws in try await shared.control(ws) },
        .events("/events", options: ticks.options) { events in try await shared.sendTicks(to: events) },
      ]
    } else {
      routes += [
        .page("/", Bytes(page)),
        .webSocket("/room", options: options("room")) { ws in try await self.join(ws) },
        .events("/events", options: ticks.options) { events in try await self.ticks.send(to: events) },
      ]
    }
    return routes
  }

  private func options(_ name: String) -> WebSocketHandshakeOptions {
    var options = WebSocketHandshakeOptions()
    options.protocols = [name]
    options.extensions = [PermessageDeflate()]
    options.connection.maxMessageSize = 1 << 20
    options.connection.keepalive = WebSocketOptions.Keepalive()
    return options
  }

  /// Gives back what it gets; `close CODE [REASON]` has it close.
  private func echo(_ ws: WebSocket) async throws {
    for try await message in ws {
      if message.isText, let (code, reason) = Self.closeRequest(message.text) {
        return try await ws.close(code, reason)
      }
      try await ws.send(message)
    }
  }

  private static func closeRequest(_ text: String) -> (CloseCode, String)? {
    let words = text.split(separator: " ", maxSplits: 2)
    guard words.count >= 2, words[0] == "close", let number = UInt16(words[1]), number == 1000 || number >= 3000,
      number < 5000
    else { return nil }
    return (CloseCode(rawValue: number), words.count > 2 ? String(words[2].prefix(30)) : "")
  }

  /// Passes on to all what each says, and how many they are.
  private func join(_ ws: WebSocket) async throws {
    try await room.serve(ws) {
      try await tellCount()
      for try await message in ws where message.isText { try await room.write(message) }
    }
    try await tellCount()
  }

  private func tellCount() async throws {
    try await room.write(Message("{\"online\":\(room.count)}"))
  }
}
