// swift run examples NAME
import Sluice

let examples: [String: @Sendable () async throws -> Void] = [
  "echo-server": echoServer, "client": client, "terminal": terminal, "recorder": recorder, "gateway": gateway,
  "large-message": largeMessage, "sorted-names": sortedNames, "command-server": commandServer,
  "careful-server": carefulServer,
  "own-extension": ownExtension, "secure-client": secureClient, "coming-back": comingBack, "shipping-log": shippingLog,
  "secure-server": secureServer,
  "web-server": webServer, "room": room, "rooms": rooms, "driver": driver,
  "framing-server": framingServer, "framing-client": framingClient,
  "framing-in-memory": framingInMemory, "one-thread": oneThread, "own-streams": ownStreams,
  "event-style": eventStyle, "event-style-server": eventStyleServer,
  "event-server": eventServer, "event-client": eventClient, "event-broadcast": eventBroadcast,
]

if let example = examples[CommandLine.arguments.dropFirst().first ?? ""] {
  try UVLoop.runShared(example)
} else {
  print("usage: swift run examples \(examples.keys.sorted().joined(separator: "|"))")
}
