// The server that the attacks go to, in a process of its own, so that its memory and CPU time can be told from the attacker's.
//   attacked-server MODE [NAME=VALUE ...]   prints its port, and serves until its standard input ends
import Logging
import Sluice

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

// The last resort: no test takes as long.
alarm(600)
LoggingSystem.bootstrap { label in
  var handler = StreamLogHandler.standardOutput(label: label)
  handler.logLevel = .warning
  // What its handlers throw is the attacks' doing.
  return CommandLine.arguments.contains("log=yes") ? handler : SwiftLogNoOpLogHandler()
}

var options = WebSocketServerOptions()
for setting in CommandLine.arguments.dropFirst(2) {
  let parts = setting.split(separator: "=", maxSplits: 1).map(String.init)
  let number = Int(parts[1]) ?? 0
  switch parts[0] {
  case "log": break
  case "maxMessageSize": options.connection.maxMessageSize = number
  case "maxFragments": options.connection.maxFragments = number
  case "closeMilliseconds": options.connection.closeTimeout = .milliseconds(number)
  case "handshakeMilliseconds": options.handshakeTimeout = .milliseconds(number)
  case "maxHeadBytes": options.headLimits.maxHeadBytes = number
  case "maxFieldCount": options.headLimits.maxFieldCount = number
  case "protocols": options.protocols = parts[1].split(separator: ",").map(String.init)
  case "deflate":
    let window = PermessageDeflate.Window(contextTakeover: parts[1] == "takeover")
    var deflate = PermessageDeflate(outgoing: window, incoming: window)
    deflate.threshold = 0
    options.extensions = [deflate]
  default: fatalError("\(parts[0]) is no setting")
  }
}

let handler: @Sendable (WebSocket) async throws -> Void =
  switch CommandLine.arguments.dropFirst().first {
  case "pipe": { ws in try await ws.pipe(ws) }
  case "await": { ws in for try await message in ws { try await ws.send(message) } }
  case "close": { ws in try await ws.close(.normal, "bye") }
  default: fatalError("usage: attacked-server pipe|await|close [NAME=VALUE ...]")
  }

let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
// Through a stream, which is flushed at once, whatever standard output is.
try await StandardStream.output().write(Bytes("\(server.port)\n"))
let serving = Task { try await server.run(handler) }
let input = StandardStream.input()
while try await input.read() != nil {}
exit(0)
