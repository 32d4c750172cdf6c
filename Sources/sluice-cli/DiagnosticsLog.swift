import Logging

/// What the library's servers log, as the tool says it.
struct DiagnosticsLog: LogHandler {
  private let diagnostics: Diagnostics
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.warning

  private init(_ diagnostics: Diagnostics) { self.diagnostics = diagnostics }

  static func logger(_ diagnostics: Diagnostics) -> Logger {
    Logger(label: "sluice", factory: { _ in DiagnosticsLog(diagnostics) })
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    diagnostics.notice("\(event.message)" + (event.metadata?["error"].map { ": \($0)" } ?? ""))
  }
}
