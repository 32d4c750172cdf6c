import Sluice
import SluiceHTTP
import SluiceServer
import SluiceStreams
import Synchronization

/// What a server has done, counted, and told in the text format of Prometheus (version 0.0.4).
final class Metrics: Sendable {
  private let open = Atomic<Int>(0)
  private let accepted = Atomic<Int>(0)
  private let receivedBytes = Atomic<Int>(0)
  private let receivedMessages = Atomic<Int>(0)
  private let sentBytes = Atomic<Int>(0)
  private let sentMessages = Atomic<Int>(0)
  private let dropped = Atomic<Int>(0)
  private let refused = CountsByLabel()
  private let errors = CountsByLabel()
  private let closes = CountsByLabel()
  private let responses = CountsByLabel()
  private let start = Duration.sinceEpoch

  func didOpen() {
    accepted.wrappingAdd(1, ordering: .relaxed)
    open.wrappingAdd(1, ordering: .relaxed)
  }

  func didEnd() { open.wrappingSubtract(1, ordering: .relaxed) }

  /// - Parameter isMessage: Whether that is a message; otherwise it is as much as was read at once.
  func didReceive(_ byteCount: Int, isMessage: Bool) {
    receivedBytes.wrappingAdd(byteCount, ordering: .relaxed)
    if isMessage { receivedMessages.wrappingAdd(1, ordering: .relaxed) }
  }

  func didSend(_ byteCount: Int, isMessage: Bool) {
    sentBytes.wrappingAdd(byteCount, ordering: .relaxed)
    if isMessage { sentMessages.wrappingAdd(1, ordering: .relaxed) }
  }

  func didDrop() { dropped.wrappingAdd(1, ordering: .relaxed) }

  /// - Parameter status: nil for a client that left before it could be told one.
  func didRefuse(status: Int?) { refused.add(status.map { "\($0)" } ?? "none") }

  func didAnswer(status: Int, byteCount: Int) {
    responses.add("\(status)")
    sentBytes.wrappingAdd(byteCount, ordering: .relaxed)
  }

  /// A peer may name any of thousands: those of applications count as one.
  func didClose(_ code: CloseCode) {
    closes.add((1000...1015).contains(code.rawValue) ? "\(code.rawValue)" : "other")
  }

  func didFail(_ kind: String) { errors.add(kind) }
  func didFail(_ error: any Error) { didFail(Self.kind(of: error)) }

  private static func kind(of error: any Error) -> String {
    switch ExitStatus(error) {
    case .protocolError: "protocol"
    case .abnormalClose: "lost"
    case .connect: "connect"
    case .handshake: "refused"
    case .inputOutput: "io"
    case .clean, .failure, .usage, .interrupted: "other"
    }
  }

  // MARK: telling

  /// Serves the text until the task that is returned is cancelled.
  /// - Throws: `IOError`: nobody can listen there.
  func serve(at address: String, _ diagnostics: Diagnostics) async throws -> Task<Void, any Error> {
    var options = HTTPServerOptions()
    // Some who scrape, and nobody who fills descriptors that clients need.
    options.maxConnections = 32
    options.maxBodySize = 0
    options.shutdownTimeout = .seconds(1)
    let server = try await HTTPServer.listen("http://\(address)", options: options)
    diagnostics.notice("metrics at \(Endpoint.withoutPath(server.url))/metrics")
    let route = HTTPRoute.respond("/metrics") { _ in
      .bytes(Bytes(self.text), type: "text/plain; version=0.0.4; charset=utf-8")
    }
    return Task(executorPreference: UVLoop.shared) {
      try await server.run(routes: [route], logger: DiagnosticsLog.logger(diagnostics))
    }
  }

  var text: String {
    var text = PrometheusText()
    text.add("sluice_build_info", .gauge, "What runs.", [("version", Version.current, 1)])
    text.add("process_start_time_seconds", .gauge, "When it was started, since 1970.", start / .seconds(1))
    text.add("sluice_connections_open", .gauge, "Connections that are open.", open)
    text.add("sluice_connections_accepted_total", .counter, "Connections that were accepted.", accepted)
    text.add(
      "sluice_connections_refused_total", .counter, "Connections and requests that were refused.", "status", refused)
    text.add("sluice_connection_errors_total", .counter, "Connections that have failed.", "kind", errors)
    text.add(
      "sluice_received_bytes_total", .counter, "Bytes that clients have sent, of their messages or streams.",
      receivedBytes)
    text.add("sluice_received_messages_total", .counter, "Messages that clients have sent.", receivedMessages)
    text.add(
      "sluice_sent_bytes_total", .counter, "Bytes that clients were sent, of their messages, streams or responses.",
      sentBytes)
    text.add("sluice_sent_messages_total", .counter, "Messages and events that clients were sent.", sentMessages)
    text.add(
      "sluice_dropped_messages_total", .counter, "Messages and datagrams that there was no room for.", dropped)
    text.add(
      "sluice_websocket_closes_total", .counter, "WebSockets that have ended, by what the client said.", "code", closes)
    text.add("sluice_http_responses_total", .counter, "Requests that were answered.", "status", responses)
    return text.text
  }
}

/// Counters of one name, by the value of a label. There are few: what a peer chooses is no value.
final class CountsByLabel: Sendable {
  private let counts = Mutex<[String: Int]>([:])

  func add(_ value: String) { counts.withLock { $0[value, default: 0] += 1 } }

  var sorted: [(String, Int)] { counts.withLock { $0.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } } }
}

/// Metrics as Prometheus reads them: https://prometheus.io/docs/instrumenting/exposition_formats/
private struct PrometheusText {
  private(set) var text = ""

  enum Kind: String { case counter, gauge }

  /// - Parameter samples: A label, its value, and the number.
  mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [(label: String, value: String, Int)]) {
    begin(name, kind, help)
    for (label, value, number) in samples { text += "\(name){\(label)=\"\(value)\"} \(number)\n" }
  }

  mutating func add(_ name: String, _ kind: Kind, _ help: String, _ label: String, _ counts: CountsByLabel) {
    add(name, kind, help, counts.sorted.map { (label, $0.0, $0.1) })
  }

  mutating func add(_ name: String, _ kind: Kind, _ help: String, _ number: borrowing Atomic<Int>) {
    begin(name, kind, help)
    text += "\(name) \(number.load(ordering: .relaxed))\n"
  }

  mutating func add(_ name: String, _ kind: Kind, _ help: String, _ number: Double) {
    begin(name, kind, help)
    text += "\(name) \(number)\n"
  }

  private mutating func begin(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
  }
}
