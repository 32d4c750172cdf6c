/// Says where a server listens. Whoever reads that may send a signal at once, which must find something to end.
struct ListeningNotice: Sendable {
  /// Whether it is one connection that is served, and nothing listens.
  var servesConnection = false
  let interruption: Interruption
  let diagnostics: Diagnostics

  /// - Parameter stop: Is called at the first signal, which may come before this returns.
  /// - Returns: What `Interruption.remove` takes.
  @discardableResult
  func tell(_ place: String, stop: @escaping @Sendable () -> Void) -> Int {
    let id = interruption.add(stop)
    if servesConnection {
      diagnostics.verbose("serving a connection at \(place)")
    } else {
      diagnostics.notice("listening on \(place)")
    }
    return id
  }
}
