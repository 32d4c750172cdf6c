#if Metrics
  import CoreMetrics
  import Synchronization

  /// Counters of one label, one for each value of a dimension, made as the values come. Of what a peer chooses there must be few.
  final class CounterFamily: Sendable {
    private let label: String
    private let dimension: String
    private let factory: any MetricsFactory
    private let counters = Mutex<[String: Counter]>([:])

    init(_ label: String, by dimension: String, _ factory: any MetricsFactory) {
      self.label = label
      self.dimension = dimension
      self.factory = factory
    }

    subscript(value: String) -> Counter {
      counters.withLock { counters in
        if let counter = counters[value] { return counter }
        let counter = Counter(label: label, dimensions: [(dimension, value)], factory: factory)
        counters[value] = counter
        return counter
      }
    }
  }
#endif
