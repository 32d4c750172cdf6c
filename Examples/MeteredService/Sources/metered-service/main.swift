// An echo server that is a service and counts: swift run metered-service [PORT]. SIGTERM ends it, and it says what it has counted.
import Logging
import MetricsTestKit
import ServiceLifecycle
import Sluice
import SluiceLifecycle
import SluiceMetrics

let port = CommandLine.arguments.dropFirst().first ?? "8000"
// A backend that keeps the numbers; a real one, such as Prometheus's, takes its place.
let metrics = TestMetrics()
var options = WebSocketServerOptions()
options.connection.observer = WebSocketMetrics(factory: metrics)
let server = try await WebSocketServer.listen("ws://127.0.0.1:\(port)", options: options)
let output = StandardStream.output()
try await output.write(Bytes("listening on \(server.port)\n"))

let group = ServiceGroup(
  services: [server.service { ws in try await ws.pipe(ws) }], gracefulShutdownSignals: [.sigterm, .sigint],
  logger: Logger(label: "metered-service"))
try await group.run()

let counters = metrics.counters.map { counter in
  ([counter.label] + counter.dimensions.map { "\($0.0)=\($0.1)" } + ["\(counter.totalValue)"]).joined(separator: " ")
}
let meters = metrics.meters.map { "\($0.label) \($0.lastValue ?? 0)" }
for line in (counters + meters).sorted() { try await output.write(Bytes(line + "\n")) }
try await output.close()
