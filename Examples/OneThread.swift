import Sluice

@MainActor final class Visits {
  private var count = 0

  func add() -> Int {
    count += 1
    return count
  }
}

/// What `main.swift` runs, it runs in `UVLoop.runShared`: the loop, its WebSockets and the main actor take turns on one thread.
/// `swift run examples one-thread [PORT]`
func oneThread() async throws {
  let visits = Visits()
  let server = try await WebSocketServer.listen("ws://127.0.0.1:\(CommandLine.arguments.dropFirst(2).first ?? "8000")")
  try await StandardStream.output().write(Bytes("ws://127.0.0.1:\(server.port)\n"))
  try await server.run { ws in
    try await ws.send("You are visitor \(await visits.add()).")
    try await ws.pipe(ws)
  }
}
