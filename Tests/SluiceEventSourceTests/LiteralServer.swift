import Sluice
import Synchronization

/// Answers each connection with the next of some literal answers, the last again and again.
/// - Parameters:
///   - answers: In a redirect, PORT stands for the server's own.
///   - holds: Whether connections stay open behind their answers.
/// - Returns: the heads of the requests, with short bodies.
func withLiteralServer(
  _ answers: [Bytes], holds: Bool = false, _ body: (_ url: String) async throws -> Void
) async throws -> [String] {
  let listener = try await TCP.listen("127.0.0.1", port: 0)
  let requests = Mutex<[String]>([])
  let serving = Task {
    var number = 0
    while let socket = try await listener.read() {
      var head = ""
      while !head.contains("\r\n\r\n"), let chunk = try await socket.read() { head += chunk.string }
      let seen = head
      requests.withLock { $0.append(seen) }
      var answer = answers[min(number, answers.count - 1)]
      if answer.starts(with: "HTTP/1.1 3".utf8) {
        answer = Bytes(answer.string.replacing("PORT", with: "\(listener.port)"))
      }
      try? await socket.write(answer)
      if !holds { try? await socket.close() }
      number += 1
    }
  }
  defer {
    serving.cancel()
    listener.cancel(nil)
  }
  try await body("http://127.0.0.1:\(listener.port)/feed")
  return requests.withLock { $0 }
}

let eventStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

/// Comes back soon.
var quickClient: EventSourceClientOptions {
  var options = EventSourceClientOptions()
  options.retry = .milliseconds(10)
  options.maxRetry = .milliseconds(50)
  return options
}

/// An answer whose body is the events given.
func eventStream(_ body: String) -> Bytes { Bytes(eventStreamHead + "\r\n" + body) }
