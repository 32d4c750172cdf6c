#if Metrics
  import CoreMetrics
  import SluiceServer

  /// Counts what an HTTP server does, with swift-metrics.
  ///
  /// ```swift
  /// var options = HTTPServerOptions()
  /// options.observer = HTTPServerMetrics()
  /// ```
  /// | label | what |
  /// |---|---|
  /// | `sluice.http.connections` | a meter: those that are open, whatever they became |
  /// | `sluice.http.opened` | a counter: those that were accepted |
  /// | `sluice.http.responses` | a counter, by `status` |
  /// | `sluice.http.bytes` | a counter: of the responses' bodies |
  /// | `sluice.http.refused` | a counter, by `status`: connections and requests that no route has answered |
  public final class HTTPServerMetrics: HTTPServerObserver {
    private let connections: Meter
    private let opened: Counter
    private let bytes: Counter
    private let responses: CounterFamily
    private let refused: CounterFamily

    /// - Parameters:
    ///   - prefix: Of the labels.
    ///   - factory: Default: the process's.
    public init(prefix: String = "sluice.http", factory: (any MetricsFactory)? = nil) {
      let factory = factory ?? MetricsSystem.factory
      connections = Meter(label: prefix + ".connections", factory: factory)
      opened = Counter(label: prefix + ".opened", factory: factory)
      bytes = Counter(label: prefix + ".bytes", factory: factory)
      responses = CounterFamily(prefix + ".responses", by: "status", factory)
      refused = CounterFamily(prefix + ".refused", by: "status", factory)
    }

    public func didOpen() {
      opened.increment()
      connections.increment()
    }

    public func didAnswer(status: Int, byteCount: Int) {
      responses[String(status)].increment()
      bytes.increment(by: byteCount)
    }

    public func didRefuse(status: Int) { refused[String(status)].increment() }
    public func didEnd() { connections.decrement() }
  }
#endif
