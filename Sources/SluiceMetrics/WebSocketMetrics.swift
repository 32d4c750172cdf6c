#if Metrics
  import CoreMetrics
  import SluiceWebSocket
  import SluiceWebSocketProtocol
  import Synchronization

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
  /// | `sluice.websocket.closes` | a counter, by `code` |
  /// | `sluice.websocket.handshake_failures` | a counter, by `status`; `none` where the client left |
  public final class WebSocketMetrics: WebSocketObserver {
    private let prefix: String
    private let factory: any MetricsFactory
    private let connections: Meter
    private let opened: Counter
    private let received: Traffic
    private let sent: Traffic
    private let highWatermark: Counter
    private let closes = Mutex<[UInt16: Counter]>([:])
    private let failures = Mutex<[String: Counter]>([:])

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
      self.prefix = prefix
      self.factory = factory
      connections = Meter(label: prefix + ".connections", factory: factory)
      opened = Counter(label: prefix + ".opened", factory: factory)
      received = Traffic(prefix, "in", factory)
      sent = Traffic(prefix, "out", factory)
      highWatermark = Counter(label: prefix + ".high_watermark", factory: factory)
    }

    public func didOpen() {
      opened.increment()
      connections.increment()
    }

    public func didFailHandshake(status: Int?) {
      let status = status.map(String.init) ?? "none"
      counter(in: failures, "handshake_failures", "status", status, key: status).increment()
    }

    public func didReceive(byteCount: Int, endsMessage: Bool) { received.add(byteCount, endsMessage) }
    public func didSend(byteCount: Int, endsMessage: Bool) { sent.add(byteCount, endsMessage) }
    public func didReachHighWatermark() { highWatermark.increment() }

    public func didEnd(_ code: CloseCode) {
      connections.decrement()
      // Of the codes that are an application's own, a peer could make two thousand series.
      let isNamed = code.rawValue < 3000
      counter(
        in: closes, "closes", "code", isNamed ? "\(code.rawValue)" : "application", key: isNamed ? code.rawValue : 3000
      )
      .increment()
    }

    private func counter<Key: Hashable & Sendable>(
      in counters: borrowing Mutex<[Key: Counter]>, _ name: String, _ dimension: String, _ value: String, key: Key
    ) -> Counter {
      counters.withLock { counters in
        if let counter = counters[key] { return counter }
        let counter = Counter(label: prefix + "." + name, dimensions: [(dimension, value)], factory: factory)
        counters[key] = counter
        return counter
      }
    }
  }
#endif
