import SluiceIO
import SluiceStreams
import SluiceTestSupport
import Synchronization
import SystemPackage
import Testing

@testable import SluiceIO

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("Loops", .timeLimit(.minutes(1)))
struct LoopTests {
  /// A timer that is due at once, again and again.
  private final class RestlessTimer: @unchecked Sendable {  // touched on its loop only
    var isStopped = false
    func start(on loop: UVLoop) {
      if !isStopped { _ = loop.schedule(after: .zero) { self.start(on: loop) } }
    }
  }

  @Test("timers that are due at once, again and again, leave the loop to others")
  func restlessTimers() async throws {
    let loop = try UVLoop(name: "restless")
    defer { loop.stop() }
    let timer = RestlessTimer()
    try await loop.run { timer.start(on: loop) }
    try await Task.sleep(for: .milliseconds(20))
    let processor = try await ProcessorTime(of: loop)
    let start = processor.now
    #expect(try await loop.run { processor.now } - start < .milliseconds(100))
    try await loop.run { timer.isStopped = true }
  }

  /// Which of several wakers a loop has told, in order.
  private final class Order: @unchecked Sendable {  // touched on its loop only
    var numbers: [Int] = []
    static let timer = -1
  }

  private final class Told: SingleWaker {
    let number: Int
    let order: Order

    init(_ number: Int, _ order: Order) {
      self.number = number
      self.order = order
    }

    // Nobody reads, so that some are told again.
    func wake() { if !order.numbers.contains(number) { order.numbers.append(number) } }
  }

  // A server gives up handshakes and requests by timers. One whose loop was busy for longer than their time has not looked yet whether they came.
  @Test("what was ready when a timer fell due is told first, however long the loop was busy", arguments: [1, 600])
  func lateTimer(sockets count: Int) async throws {
    let loop = try UVLoop(name: "late")
    defer { loop.stop() }
    let order = Order()
    var pairs: [(near: SocketStream, far: SocketStream)] = []
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    defer { listener.cancel() }
    for _ in 0..<count {
      async let accepted = listener.read()
      let far = try await TCP.connect("127.0.0.1", port: listener.port)
      pairs.append((try #require(try await accepted), far))
    }
    let all = pairs
    try await loop.run {
      for (number, pair) in all.enumerated() {
        guard case .pending = try pair.near.poll() else {
          Issue.record("data that nobody sent")
          return
        }
        try pair.near.attachReader(Told(number, order))
      }
      _ = loop.schedule(after: .milliseconds(50)) { order.numbers.append(Order.timer) }
    }
    // Busy from before the data comes until the time is over.
    let isSent = Atomic(false)
    loop.execute {
      while !isSent.load(ordering: .acquiring) { usleep(1000) }
      usleep(60_000)
    }
    for pair in all { try await pair.far.write("in time") }
    isSent.store(true, ordering: .releasing)
    while try await loop.run({ !order.numbers.contains(Order.timer) }) { try await Task.sleep(for: .milliseconds(10)) }
    let place = try await loop.run { order.numbers.firstIndex(of: Order.timer) }
    #expect(place == count)
    for pair in all {
      pair.far.abort(StreamError.aborted)
      pair.near.abort(StreamError.aborted)
    }
  }

  @Test("several loops share a port")
  func sharedPort() async throws {
    let (one, two) = try (UVLoop(name: "one"), UVLoop(name: "two"))
    let first = try await TCP.listen("127.0.0.1", port: 0, sharesPort: true, on: one)
    let second = try await TCP.listen("127.0.0.1", port: first.port, sharesPort: true, on: two)
    first.cancel()
    _ = try await one.run { true }
    let client = try await TCP.connect("127.0.0.1", port: second.port)
    let server = try #require(try await second.read())
    #expect(server.loop === two)
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    second.cancel()
    _ = try await two.run { true }
    one.stop()
    two.stop()
  }

  @Test("cancellation at any await leaves no handle and no timer")
  func cancellation() async throws {
    let loop = try UVLoop(name: "counted")
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    for _ in 0..<20 {
      let reading = Task { try await listener.read() }
      let connecting = Task { try await TCP.connect("127.0.0.1", port: listener.port, on: loop) }
      let hopeless = Task { try await TCP.connect("192.0.2.1", port: 9, on: loop) }
      try await Task.sleep(for: .milliseconds(1))
      hopeless.cancel()
      _ = try? await hopeless.value
      let client = try await connecting.value
      let server = try #require(try await reading.value)
      let piping = Task { try await server.pipe(client) }
      let waiting = Task { try await client.write(Bytes([UInt8](repeating: 0, count: 32 << 20))) }
      try await Task.sleep(for: .milliseconds(2))
      piping.cancel()
      waiting.cancel()
      _ = try? await piping.value
      _ = try? await waiting.value
      client.abort(StreamError.aborted)
      server.abort(StreamError.aborted)
    }
    listener.cancel()
    try await Task.sleep(for: .milliseconds(100))
    #expect(try await loop.run { loop.openHandles } == 0)
    #expect(try await loop.run { loop.openTimers } == 0)
    loop.stop()
  }

  @Test("signals are a stream")
  func signals() async throws {
    let signals = Signals([.user1])
    _ = try await UVLoop.shared.run { true }
    kill(getpid(), SIGUSR1)
    #expect(try await signals.read() == .user1)
    signals.cancel()
    #expect(try await signals.read() == nil)
  }
}
