import Sluice
import SluiceIO
import SluiceStreams

/// A terminal on the page of `sluice demo`, for whoever has the key: other users of this machine reach its port too, and so do pages whose names lead here.
struct DemoTerminal: Sendable {
  let command: String
  let commands: CommandRunner
  let key = (0..<2).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined()

  func route(_ options: WebSocketHandshakeOptions) -> HTTPRoute {
    .webSocket("/terminal", options: options) { ws in
      guard ws.query == "key=\(key)" else {
        return try await ws.close(.policyViolation, "open the address that sluice demo has printed")
      }
      let child = try await commands.terminal(command, ChildProcess.WindowSize(), for: Visit(ws))
      try await bridge(TerminalUser(ws) { child.resize($0) }, child)
    }
  }
}
