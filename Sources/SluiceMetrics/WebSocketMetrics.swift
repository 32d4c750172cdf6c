#if Metrics
  import CoreMetrics
  import SluiceWebSocket
  import SluiceWebSocketProtocol

  /// Counts what WebSockets do, with swift-metrics.
  ///
  /// ```swift
  /// var options = WebSocketServerOptions()
  /// options.connection.observer = WebSocketMetrics()
  /// ```
  /// | label | what |
  /// |---|---|
  /// | `sluice.websocket.connections` | a meter: those that are open |
  /// | `sluice.websocket.opened` | a counter: those that were opened |
  /// | `sluice.websocket.messages`, `.bytes` | counters, by `direction`: `in`, `out` |
  /// | `sluice.websocket.high_watermark` | a counter: how often senders had to wait |
  /// | `sluice.websocket.missed` | a counter: what a broadcast passed by slow connections with |
  /// | `sluice.websocket.closes` | a counter, by `code` |
  /// | `sluice.websocket.handshake_failures` | a counter, by `status`; `none` where the client left, or found no server |
  public final class WebSocketMetrics: WebSocketObserver {
    private let connections: Meter
    private let opened: Counter
    private let received: Traffic
    private let sent: Traffic
    private let highWatermark: Counter
    private let missed: Counter
    private let closes: CounterFamily
    private let failures: CounterFamily

    private struct Traffic: Sendable {
      let messages: Counter
      let bytes: Counter

      init(_ prefix: String, _ direction: String, _ factory: any MetricsFactory) {
        let dimensions = [("direction", direction)]
        messages = Counter(label: prefix + ".messages", dimensions: dimensions, factory: factory)
        bytes = Counter(label: prefix + ".bytes", dimensions: dimensions, factory: factory)
      }

      func add(_ byteCount: Int, _ endsMessage: Bool) {
        if endsMessage { messages.increment() }
        bytes.increment(by: byteCount)
      }
    }

    /// - Parameters:
    ///   - prefix: Of the labels.
    ///   - factory: Default: the process's.
    public init(prefix: String = "sluice.websocket", factory: (any MetricsFactory)? = nil) {
      let factory = factory ?? MetricsSystem.factory
      connections = Meter(label: prefix + ".connections", factory: factory)
      opened = Counter(label: prefix + ".opened", factory: factory)
      received = Traffic(prefix, "in", factory)
      sent = Traffic(prefix, "out", factory)
      highWatermark = Counter(label: prefix + ".high_watermark", factory: factory)
      missed = Counter(label: prefix + ".missed", factory: factory)
      closes = CounterFamily(prefix + ".closes", by: "code", factory)
      failures = CounterFamily(prefix + ".handshake_failures", by: "status", factory)
    }

    public func didOpen() {
      opened.increment()
      connections.increment()
    }

    public func didFailHandshake(status: Int?) {
      // A server that a client meets may answer with anything; there are these few.
      failures[status.map { (100...599).contains($0) ? String($0) : "other" } ?? "none"].increment()
    }

    public func didReceive(byteCount: Int, endsMessage: Bool) { received.add(byteCount, endsMessage) }
    public func didSend(byteCount: Int, endsMessage: Bool) { sent.add(byteCount, endsMessage) }
    public func didReachHighWatermark() { highWatermark.increment() }
    public func didMiss() { missed.increment() }

    public func didEnd(_ code: CloseCode) {
      connections.decrement()
      // Of the codes that are an application's own, a peer could make two thousand series.
      closes[code.rawValue < 3000 ? String(code.rawValue) : "application"].increment()
    }
  }
#endif
