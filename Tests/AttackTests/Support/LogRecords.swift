import Logging
import Synchronization

/// Everything that is logged, at every level.
final class LogRecords: Sendable {
  private let records = Mutex<[String]>([])

  var all: [String] { records.withLock { $0 } }

  var logger: Logger { Logger(label: "attacks") { _ in Handler(records: self) } }

  private struct Handler: LogHandler {
    let records: LogRecords
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let record = "\(event.level) \(event.message) \(event.metadata ?? [:]) \(metadata)"
      records.records.withLock { $0.append(record) }
    }
  }
}
