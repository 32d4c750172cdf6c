import Sluice
import SluiceClient
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceEventSource

@Suite("A client of event streams that comes back, on virtual time", .timeLimit(.minutes(1)))
struct ReturningTests {
  /// What a server answers to the requests, one after the other; the last again and again. nil lets the connection fail.
  private func run(
    _ answers: [String?], _ options: EventSourceClientOptions = EventSourceClientOptions(),
    _ body: @escaping @Sendable (EventSourceClient, SimulatedLoop, Requests) async throws -> Void
  ) async throws {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    let requests = Requests()
    var options = options
    options.jitter = { 0 }
    options.willWait = { time, _ in requests.didWait(time) }
    let final = options
    try await loop.simulate {
      let client = try await EventSource.connect("http://test/feed", options: final, on: loop) { _, _ in
        let (near, far) = network.connection()
        guard let answer = answers[min(requests.all.count, answers.count - 1)] else {
          requests.add("")
          throw ConnectionReset()
        }
        Task(executorPreference: loop) {
          var head = ""
          while !head.hasSuffix("\r\n\r\n"), let chunk = try await far.read() { head += chunk.string }
          requests.add(head)
          try await far.write(Bytes(answer))
          // A stream without an end stays open.
          if answer.hasSuffix(": stays\n") { return }
          try await far.close()
        }
        return RequestRoute(near)
      }
      try await body(client, loop, requests)
    }
  }

  private final class Requests: Sendable {
    private let state = Mutex<(heads: [String], waits: [Duration])>(([], []))
    func add(_ head: String) { state.withLock { $0.heads.append(head) } }
    func didWait(_ time: Duration) { state.withLock { $0.waits.append(time) } }
    var all: [String] { state.withLock { $0.heads } }
    var waits: [Duration] { state.withLock { $0.waits } }
  }

  private static let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
  private static let unavailable = "HTTP/1.1 503 Busy\r\n\r\n"

  @Test("it names the last event that it saw, and waits as the server says")
  func resumes() async throws {
    try await run([
      Self.head + "data: a\n\n", Self.head + "retry: 20000\nid: 7\ndata: b\n\n", Self.head + "data: c\n\n",
      "HTTP/1.1 204 No Content\r\n\r\n",
    ]) { client, loop, requests in
      var events: [String] = []
      for try await event in client { events.append(event.data) }
      #expect(events == ["a", "b", "c"])
      #expect(requests.waits == [.seconds(3), .seconds(20), .seconds(20)])
      #expect(loop.now == .seconds(43))
      let named = requests.all.map { $0.contains("Last-Event-ID: 7\r\n") }
      #expect(named == [false, false, true, true])
      #expect(client.lastEventID == "7")
    }
  }

  @Test("it waits longer after each failure in a row, up to its limit, and begins anew after an event")
  func backoff() async throws {
    let failures = [String?](repeating: nil, count: 4) + [String?](repeating: Self.unavailable, count: 4)
    try await run(
      [Self.head + "data: a\n\n"] + failures + [Self.head + "data: b\n\n", Self.head + "data: c\n\n:: stays\n"]
    ) { client, _, requests in
      for data in ["a", "b", "c"] {
        let event = try await client.read()
        #expect(event?.data == data)
      }
      #expect(requests.waits == [3, 6, 12, 24, 48, 60, 60, 60, 60, 3].map { .seconds($0) })
      client.cancel(nil)
      let end = try await client.read()
      #expect(end == nil)
    }
  }

  @Test("what will not go away is thrown after as many waits as there were failures before it")
  func finality() async throws {
    try await run([Self.head + "data: a\n\n", Self.unavailable, "HTTP/1.1 403 No\r\n\r\n"]) { client, loop, _ in
      let event = try await client.read()
      #expect(event?.data == "a")
      await #expect(throws: EventSourceError.self) { try await client.read() }
      #expect(loop.now == .seconds(3 + 6))
    }
  }

  @Test("a stream that is cancelled while it waits ends at once, and asks no more")
  func cancelled() async throws {
    try await run([Self.head + "data: a\n\n"]) { client, loop, requests in
      let event = try await client.read()
      #expect(event?.data == "a")
      let waiting = Task(executorPreference: loop) { try await client.read() }
      try await loop.sleep(for: .seconds(1))
      client.cancel(nil)
      let end = try await waiting.value
      #expect(end == nil && loop.now == .seconds(1) && requests.all.count == 1)
    }
  }

  @Test("silence beyond its limit is a lost connection, and a cancelled read ends the waiting")
  func silence() async throws {
    var options = EventSourceClientOptions()
    options.silenceTimeout = .seconds(100)
    try await run([Self.head + "data: a\n\n:: stays\n"], options) { client, loop, requests in
      for number in 0..<3 {
        let event = try await client.read()
        #expect(event?.data == "a")
        #expect(loop.now == .seconds(103 * number))
      }
      let waiting = Task(executorPreference: loop) { try await client.read() }
      try await loop.sleep(for: .seconds(101))
      waiting.cancel()
      await #expect(throws: CancellationError.self) { try await waiting.value }
      #expect(requests.all.count == 3)
      client.cancel(nil)
    }
  }
}
