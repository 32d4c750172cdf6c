import Sluice

// A command for each WebSocket, which is told what the connection is.
func commandServer() async throws {
  try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
    var variables = await ws.cgiVariables
    variables["ROOM"] = "blue"
    let environment = variables.added(to: ChildProcess.inheritedEnvironment)
    let command = try await ChildProcess.shell("env | sort; cat", environment: environment)
    try await bridge(command, ws, framing: .lines, kind: .text)
  }
}
