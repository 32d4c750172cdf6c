import Sluice
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A WebSocket library of another language, as a program that serves or connects; see `Peers/`.
enum Peer: String, CaseIterable, CustomTestStringConvertible {
  case ws
  case faye
  case websockets
  case gorilla

  var testDescription: String { rawValue }

  private var arguments: [String] {
    switch self {
    case .ws: ["node", "\(Repository.peers)/ws.js"]
    case .faye: ["node", "\(Repository.peers)/faye.js"]
    case .websockets: ["\(Repository.build)/peers/venv/bin/python", "\(Repository.peers)/websockets_peer.py"]
    case .gorilla: ["\(Repository.build)/peers/gorilla"]
    }
  }

  private func start(_ more: String...) async throws -> ChildProcess {
    try await ChildProcess.spawn(arguments + more, environment: Repository.environment)
  }

  /// Runs `body` while the peer serves at the URL that it is given.
  func serving(_ body: (String) async throws -> Void) async throws {
    let server = try await start("serve")
    let port = try #require(try await server.lines.read())
    try await body("ws://127.0.0.1:\(port)")
    // The peer exits when its standard input ends.
    try await server.close()
    _ = try? await server.waitForExit()
  }

  /// Lets the peer's client talk with a server.
  /// - Returns: the line that it prints when all went well.
  func connect(_ url: String) async throws -> String {
    let client = try await start("connect", url)
    return try await client.lines.collect(limit: 100).joined(separator: "\n")
  }
}

/// Where things are.
enum Repository {
  static let root = String(#filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/" + $1 })
  static let build = root + "/.build"
  static let peers = root + "/Tests/InteropTests/Peers"
  /// The release build, which `scripts/test` makes before the tests.
  static let tool = build + "/release/sluice"

  static let environment = [
    "PATH": variable("PATH") ?? "/usr/bin:/bin", "HOME": variable("HOME") ?? "/", "NODE_PATH": "/usr/share/nodejs",
  ]

  private static func variable(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }
}

/// A server of ours on a port of its own, while `body` runs.
func serving(
  _ options: WebSocketServerOptions = WebSocketServerOptions(),
  _ handler: @escaping @Sendable (WebSocket) async throws -> Void, _ body: (String) async throws -> Void
) async throws {
  let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
  let running = Task { try await server.run(handler) }
  try await body("ws://127.0.0.1:\(server.port)")
  running.cancel()
  _ = try? await running.value
}
