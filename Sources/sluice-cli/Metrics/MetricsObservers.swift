import Sluice
import SluiceServer

/// Counts what a server's WebSockets do.
final class WebSocketCounting: WebSocketObserver {
  private let metrics: Metrics
  /// Whether nothing else counts the connections that they are.
  private let countsConnections: Bool

  init(_ metrics: Metrics, countsConnections: Bool) {
    self.metrics = metrics
    self.countsConnections = countsConnections
  }

  func didOpen() { if countsConnections { metrics.didOpen() } }
  func didFailHandshake(status: Int?) { metrics.didRefuse(status: status) }
  func didReceive(byteCount: Int, endsMessage: Bool) { metrics.didReceive(byteCount, isMessage: endsMessage) }
  func didSend(byteCount: Int, endsMessage: Bool) { metrics.didSend(byteCount, isMessage: endsMessage) }
  func didReachHighWatermark() {}
  func didMiss() { metrics.didDrop() }

  func didEnd(_ code: CloseCode) {
    metrics.didClose(code)
    if countsConnections { metrics.didEnd() }
  }
}

/// Counts the connections of a server of HTTP, and what it answers.
final class HTTPCounting: HTTPServerObserver {
  private let metrics: Metrics

  init(_ metrics: Metrics) { self.metrics = metrics }

  func didOpen() { metrics.didOpen() }
  func didAnswer(status: Int, byteCount: Int) { metrics.didAnswer(status: status, byteCount: byteCount) }
  func didRefuse(status: Int) { metrics.didRefuse(status: status) }
  func didEnd() { metrics.didEnd() }
}

/// Counts the events of event streams.
final class EventCounting: EventSourceObserver {
  private let metrics: Metrics

  init(_ metrics: Metrics) { self.metrics = metrics }

  func didOpen() {}
  func didRefuse(status: Int) { metrics.didRefuse(status: status) }
  func didSend(byteCount: Int) { metrics.didSend(byteCount, isMessage: true) }
  func didMiss() { metrics.didDrop() }
  func didReachHighWatermark() {}
  func didEnd() {}
}
