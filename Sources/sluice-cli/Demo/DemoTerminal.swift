import Sluice
import SluiceIO
import SluiceStreams

/// A terminal on the page of `sluice demo`, for whoever has the key: other users of this machine reach its port too, and so do pages whose names lead here.
struct DemoTerminal: Sendable {
  let command: String
  let key = (0..<2).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined()

  func route(_ options: WebSocketHandshakeOptions) -> HTTPRoute {
    .webSocket("/terminal", options: options) { ws in
      guard ws.query == "key=\(key)" else {
        return try await ws.close(.policyViolation, "open the address that sluice demo has printed")
      }
      var environment = ChildProcess.inheritedEnvironment
      environment["TERM"] = "xterm-256color"
      let child = try await ChildProcess.terminal(
        command, window: ChildProcess.WindowSize(), environment: environment, ending: ChildProcess.Ending())
      try await bridge(TerminalUser(ws) { child.resize($0) }, child)
    }
  }
}
