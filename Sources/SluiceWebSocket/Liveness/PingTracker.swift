import SluiceStreams
import SluiceWebSocketProtocol

/// Names one call of `ping`, for its cancellation.
final class PendingPing: @unchecked Sendable {  // touched on its loop only
  var isCancelled = false
}

/// The pings that wait for their pong, oldest first. A pong answers the ping whose payload it carries, and every older one
/// (RFC 6455 §5.5.3: a peer may answer the latest only).
struct PingTracker {
  private struct Waiting {
    let id: PendingPing
    let payload: Bytes
    let sentAt: Duration
    let continuation: CheckedContinuation<Duration, any Error>
  }
  private var waiting: [Waiting] = []
  private var lastNumber: UInt64 = 0

  var isWaiting: Bool { !waiting.isEmpty }

  /// A payload that no earlier ping of this connection had.
  mutating func nextPayload() -> Bytes {
    lastNumber += 1
    var builder = BytesBuilder(capacity: 8)
    builder.append(bigEndian: lastNumber)
    return builder.take()
  }

  mutating func add(
    _ id: PendingPing, _ payload: Bytes, at time: Duration, _ continuation: CheckedContinuation<Duration, any Error>
  ) {
    waiting.append(Waiting(id: id, payload: payload, sentAt: time, continuation: continuation))
  }

  mutating func didReceivePong(_ payload: Bytes, at time: Duration) {
    guard let index = waiting.firstIndex(where: { $0.payload == payload }) else { return }
    let answered = waiting[...index]
    waiting.removeSubrange(...index)
    for ping in answered { ping.continuation.resume(returning: time - ping.sentAt) }
  }

  /// Ends the waiting for one ping.
  mutating func cancel(_ id: PendingPing) {
    id.isCancelled = true
    guard let index = waiting.firstIndex(where: { $0.id === id }) else { return }
    waiting.remove(at: index).continuation.resume(throwing: CancellationError())
  }

  mutating func fail() {
    let failed = waiting
    waiting = []
    for ping in failed {
      Reached.mark("ws.pingWithoutPong")
      ping.continuation.resume(throwing: WebSocketError.noPong)
    }
  }
}
