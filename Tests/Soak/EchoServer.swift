import Logging
import Sluice
import SluiceStreams
import Synchronization
import SystemPackage

/// Echoes messages, on every second connection by a pipe, on the others by a loop.
final class EchoServer: Sendable {
  private let certificates: FilePath
  private let counts = Mutex((accepted: 0, open: 0))

  init(_ certificates: FilePath) { self.certificates = certificates }

  func run() async throws {
    let plain = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options())
    let secure = try await WebSocketServer.listen("wss://127.0.0.1:0", options: options(try secured()))
    say("ports \(plain.port) \(secure.port)")
    try await withThrowingTaskGroup(of: Void.self) { group in
      for server in [plain, secure] {
        group.addTask { try await server.run(logger: quiet) { try await self.echo($0) } }
      }
      group.addTask {
        while true {
          try await Task.sleep(for: .seconds(5))
          let counts = self.counts.withLock { $0 }
          say("server accepted \(counts.accepted) open \(counts.open)")
        }
      }
      try await group.next()
      group.cancelAll()
    }
  }

  private func secured() throws -> TLSServerContext {
    var options = TLSServerOptions(
      .pem(certificates: .file(certificates.appending("good.pem")), key: .file(certificates.appending("good.key"))))
    options.handshakeTimeout = patience
    return try TLSServerContext(options)
  }

  private func options(_ tls: TLSServerContext? = nil) -> WebSocketServerOptions {
    var options = WebSocketServerOptions()
    options.listen.tls = tls
    options.listen.backlog = 4096
    options.handshake.handshakeTimeout = patience
    options.extensions = [PermessageDeflate()]
    options.connection.closeTimeout = patience
    options.connection.keepalive = .init(interval: .seconds(15), timeout: patience)
    return options
  }

  private func echo(_ ws: WebSocket) async throws {
    let number = counts.withLock { counts in
      counts.accepted += 1
      counts.open += 1
      return counts.accepted
    }
    defer { counts.withLock { $0.open -= 1 } }
    if number % 2 == 0 { return try await ws.pipe(ws) }
    for try await message in ws { try await ws.send(message) }
  }
}

/// What a limit of time is here: longer than a busy machine takes for anything.
let patience = Duration.seconds(90)

/// That connections fail is what is wanted here.
let quiet = Logger(label: "soak") { _ in SwiftLogNoOpLogHandler() }
