import Sluice
import Synchronization

/// Gives events to all that listen, as fast as they are taken, from a thousand listeners on; prints each second how many were given in all.
/// - Parameter kind: `shared`: one broadcast to all; `shared-gzip`: the same to clients that take gzip; `own-gzip`: each client has events of its own.
func serveEvents(_ kind: String, size: Int) async throws {
  var options = EventSourceServerOptions()
  options.compresses = kind.hasSuffix("gzip")
  options.ping = nil
  let broadcast = EventBroadcast(whenSlow: .wait)
  let counts = Counts()
  let server = try await EventSourceServer.listen("http://127.0.0.1:0", options: options)
  try await tell(server.port)
  try await withThrowingDiscardingTaskGroup { group in
    group.addTask {
      try await server.run { events in
        counts.listeners.add(1, ordering: .relaxed)
        if kind.hasPrefix("shared") { return try await broadcast.serve(events) }
        while counts.listeners.load(ordering: .relaxed) < 1000 { try await Task.sleep(for: .milliseconds(10)) }
        for number in 0... {
          try await events.write(event(number, size))
          counts.given.add(1, ordering: .relaxed)
          // One client that takes all at once must not keep the loop from the others.
          await Task.yield()
        }
      }
    }
    group.addTask {
      var number = 0
      while kind.hasPrefix("shared") {
        guard broadcast.count >= 1000 else {
          try await Task.sleep(for: .milliseconds(10))
          continue
        }
        try await broadcast.write(event(number, size))
        counts.given.add(broadcast.count, ordering: .relaxed)
        number += 1
      }
    }
    while true {
      try await Task.sleep(for: .seconds(1))
      try await tell(counts.given.load(ordering: .relaxed))
    }
  }
}

private final class Counts: Sendable {
  let listeners = Atomic<Int>(0)
  /// Events, once for each listener.
  let given = Atomic<Int>(0)
}

/// JSON of about that many bytes, as a feed of prices has it.
private func event(_ number: Int, _ size: Int) -> ServerSentEvent {
  var text = "{\"sequence\":\(number)"
  var item = number
  while text.utf8.count < size {
    item = item &* 1_103_515_245 &+ 12345
    text += ",\"symbol\":\"S\(item >> 8 & 0xFFF)\",\"bid\":\(item >> 20 & 0xFFFF),\"ask\":\(item >> 24 & 0xFFFF)"
  }
  return ServerSentEvent(text + "}", id: "\(number)")
}
