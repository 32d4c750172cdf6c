import SluiceHTTP
import SluiceStreams

/// What the end of a connection means for the next.
package enum ConnectionEnd: Sendable {
  /// The peer has said that there is no more to come.
  case final
  case lost(any Error)
}

/// Makes one connection after the other: the next when the one before has been lost.
package actor Reconnector<Connection: Sendable> {
  private let loop: any Loop
  private let options: ReconnectOptions
  private let url: String
  private let headers: Headers
  private let connect: @Sendable (ReconnectOptions.Attempt) async throws -> Connection
  private let end: @Sendable (Connection) async -> ConnectionEnd
  private var backoff: Backoff
  private var attempts = 0
  /// The connection that was given last, and the loop's time then.
  private var current: (connection: Connection, since: Duration)?
  private var isStopped = false

  /// - Parameters:
  ///   - url: Where the attempts go if `options.prepare` does not say otherwise.
  ///   - loop: What waits by its clock.
  ///   - connect: Makes one attempt.
  ///   - end: Tells how a connection has ended, and closes it if it has not.
  package init(
    _ options: ReconnectOptions, url: String, headers: Headers = [:], on loop: any Loop,
    connect: @escaping @Sendable (ReconnectOptions.Attempt) async throws -> Connection,
    end: @escaping @Sendable (Connection) async -> ConnectionEnd
  ) {
    self.options = options
    self.url = url
    self.headers = headers
    self.loop = loop
    self.connect = connect
    self.end = end
    backoff = Backoff(options)
  }

  /// The connections as a stream. It ends after the final one, and throws an error that is final.
  package nonisolated var connections: Readable<Connection> {
    Readable(onCancel: { _ in _ = startTask { await self.stop() } }, { try await self.next() })
  }

  private func stop() async {
    isStopped = true
    guard let (connection, _) = current.take() else { return }
    _ = await end(connection)
  }

  private func next() async throws -> Connection? {
    var lastError: (any Error)?
    if let (connection, since) = current.take() {
      backoff.connectionDidEnd(after: await loop.currentTime() - since)
      switch await end(connection) {
      case .final: return nil
      case .lost(let error):
        if options.isFinal(error) { throw error }
        lastError = error
        try await wait(after: error)
      }
    }
    while !isStopped {
      do {
        return try await attempt(after: lastError)
      } catch {
        if Task.isCancelled || options.isFinal(error) { throw error }
        lastError = error
        try await wait(after: error)
      }
    }
    return nil
  }

  private func attempt(after lastError: (any Error)?) async throws -> Connection {
    var attempt = ReconnectOptions.Attempt(number: attempts, lastError: lastError, url: url, headers: headers)
    attempts += 1
    await options.prepare(&attempt)
    let connection = try await connect(attempt)
    current = (connection, await loop.currentTime())
    options.didConnect(attempt)
    return connection
  }

  private func wait(after error: any Error) async throws {
    let wanted = (error as? any RetryAdvising)?.retryAfter
    guard let delay = backoff.nextDelay(wanted: wanted, random: options.jitter()) else { throw error }
    options.willWait(delay, error)
    try await loop.sleep(for: delay)
  }
}
