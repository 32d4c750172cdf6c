// The end that the Autobahn suite tests, over and over in `scripts/autobahn`.
//   autobahn-peer server               prints its port and echoes until it is killed
//   autobahn-peer client URL AGENT     asks the suite for its cases and echoes in each, a few side by side
import Sluice

// With what costs most on: contexts are kept, and every message is compressed.
let deflate: PermessageDeflate = {
  let window = PermessageDeflate.Window(contextTakeover: true)
  var deflate = PermessageDeflate(outgoing: window, incoming: window)
  deflate.threshold = 0
  return deflate
}()

let arguments = CommandLine.arguments.dropFirst()
switch (arguments.first, arguments.count) {
case ("server", 1):
  var options = WebSocketServerOptions()
  options.extensions = [deflate]
  let server = try await WebSocketServer.listen("ws://127.0.0.1:0", options: options)
  // Through a stream, which is flushed at once, whatever standard output is.
  try await StandardStream.output().write(Bytes("\(server.port)\n"))
  try await server.run { ws in try await ws.pipe(ws) }
case ("client", 3):
  let (url, agent) = (arguments[2], arguments[3])
  let asked = try await WebSocket.connect(url + "/getCaseCount")
  let count = try await asked.read().flatMap { Int($0.text) } ?? 0
  while try await asked.read() != nil {}
  try await withThrowingTaskGroup(of: Void.self) { group in
    for number in 0..<count {
      // Most cases wait for a timer of the suite's.
      if number >= 4 { try await group.next() }
      group.addTask {
        var options = WebSocketClientOptions()
        options.extensions = [deflate]
        let ws = try await WebSocket.connect("\(url)/runCase?case=\(number + 1)&agent=\(agent)", options: options)
        // How a case should end is the suite's to say.
        try? await ws.pipe(ws)
      }
    }
    try await group.waitForAll()
  }
  let reported = try await WebSocket.connect("\(url)/updateReports?agent=\(agent)")
  while try await reported.read() != nil {}
default:
  print("usage: autobahn-peer server | autobahn-peer client URL AGENT")
}
