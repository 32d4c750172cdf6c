#if Metrics
  import CoreMetrics
  import SluiceEventSource

  /// Counts what a server's event streams do, with swift-metrics.
  ///
  /// ```swift
  /// var options = EventSourceServerOptions()
  /// options.observer = EventSourceMetrics()
  /// ```
  /// | label | what |
  /// |---|---|
  /// | `sluice.eventsource.connections` | a meter: streams that are open |
  /// | `sluice.eventsource.opened` | a counter: those that were begun |
  /// | `sluice.eventsource.events`, `.bytes` | counters: events, and bytes of their text before it is compressed |
  /// | `sluice.eventsource.missed` | a counter: what a broadcast passed by slow clients with |
  /// | `sluice.eventsource.high_watermark` | a counter: how often producers had to wait |
  /// | `sluice.eventsource.refused` | a counter, by `status` |
  public final class EventSourceMetrics: EventSourceObserver {
    private let connections: Meter
    private let opened: Counter
    private let events: Counter
    private let bytes: Counter
    private let missed: Counter
    private let highWatermark: Counter
    private let refused: CounterFamily

    /// - Parameters:
    ///   - prefix: Of the labels.
    ///   - factory: Default: the process's.
    public init(prefix: String = "sluice.eventsource", factory: (any MetricsFactory)? = nil) {
      let factory = factory ?? MetricsSystem.factory
      connections = Meter(label: prefix + ".connections", factory: factory)
      opened = Counter(label: prefix + ".opened", factory: factory)
      events = Counter(label: prefix + ".events", factory: factory)
      bytes = Counter(label: prefix + ".bytes", factory: factory)
      missed = Counter(label: prefix + ".missed", factory: factory)
      highWatermark = Counter(label: prefix + ".high_watermark", factory: factory)
      refused = CounterFamily(prefix + ".refused", by: "status", factory)
    }

    public func didOpen() {
      opened.increment()
      connections.increment()
    }

    public func didRefuse(status: Int) { refused[String(status)].increment() }

    public func didSend(byteCount: Int) {
      events.increment()
      bytes.increment(by: byteCount)
    }

    public func didMiss() { missed.increment() }
    public func didReachHighWatermark() { highWatermark.increment() }
    public func didEnd() { connections.decrement() }
  }
#endif
