import SluiceHTTP
import SluiceIO
import SluiceStreams
import Synchronization
import Testing

@testable import SluiceServer

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("The listening sockets of one server, and their connections", .timeLimit(.minutes(1)))
struct ServerSocketsTests {
  private func listen(loops: Int) async throws -> ServerSockets {
    var options = ListenOptions()
    options.backlog = 16
    options.loops = loops
    return try await ServerSockets.listen(
      ConnectionURL("http://127.0.0.1:0", schemes: ["http"], allowsPortZero: true), options)
  }

  @Test("a listener that fails ends the others, whichever it is", arguments: [0, 1, 2])
  func oneFails(failing: Int) async throws {
    let sockets = try await listen(loops: 3)
    let cancelled = Mutex<Set<Int>>([])
    await #expect(throws: StreamError.truncated(what: "x", expected: 1, actual: 0)) {
      try await sockets.run { index in
        if index == failing { throw StreamError.truncated(what: "x", expected: 1, actual: 0) }
        do { try await Task.sleep(for: .seconds(3600)) } catch {
          _ = cancelled.withLock { $0.insert(index) }
          throw error
        }
      }
    }
    #expect(cancelled.withLock { $0 } == Set(0..<3).subtracting([failing]))
    for listener in sockets.listeners { listener.cancel() }
  }

  @Test("one that ends lets the others go on to their own end")
  func oneEnds() async throws {
    let sockets = try await listen(loops: 2)
    let ended = Mutex(0)
    try await sockets.run { index in
      if index == 1 { try await Task.sleep(for: .milliseconds(200)) }
      ended.withLock { $0 += 1 }
    }
    #expect(ended.withLock { $0 } == 2)
    for listener in sockets.listeners { listener.cancel() }
  }

  @Test("a socket that was given is served by all loops")
  func given() async throws {
    let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    // Where a socket that is bound to nothing listens, the system chooses: all addresses, and a port.
    #expect(systemListen(descriptor, 8) == 0)
    var options = ListenOptions()
    options.loops = 2
    options.descriptor = descriptor
    let sockets = try await ServerSockets.listen(ConnectionURL("http://localhost/x", schemes: ["http"]), options)
    #expect(sockets.listeners.count == 2 && sockets.port > 0)
    #expect(Set(sockets.listeners.map(\.port)) == [sockets.port])
    #expect(sockets.url == "http://0.0.0.0:\(sockets.port)/x")
    for listener in sockets.listeners { listener.cancel() }
  }

  /// A connection that ends when it is asked to.
  private final class Held: ServedConnection, @unchecked Sendable {  // `servingTask` is the service's, on the loop
    var servingTask: Task<Void, any Error>?
    let ended = Mutex(false)
    func endForShutdown() { ended.withLock { $0 = true } }
    func serve() async { while !ended.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(5)) } }
  }

  @Test("when the listener fails, the connections that are open are ended, and the failure is thrown")
  func connectionsOfFailedListener() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let held = Held()
    let connections = listener.map { socket in
      socket.cancel()
      return held
    }
    let running = Task(executorPreference: UVLoop.shared) {
      try await ConnectionService(FailingSecond(connections), closeTimeout: .seconds(50)) { service, held in
        Task(executorPreference: service.loop) { () async throws in
          await held.serve()
          service.didEnd(held)
        }
      }.run()
    }
    let clients = [
      try await TCP.connect("127.0.0.1", port: listener.port), try await TCP.connect("127.0.0.1", port: listener.port),
    ]
    await #expect(throws: StreamError.tooSlow(bufferedBytes: 7)) { try await running.value }
    #expect(held.ended.withLock { $0 })
    for client in clients { client.abort(StreamError.aborted) }
  }
}

/// A source whose second element is a failure.
private final class FailingSecond<Source: PolledReadableStream>: PolledReadableStream, @unchecked Sendable {
  typealias Output = Source.Output
  private let source: Source
  private var count = 0

  init(_ source: Source) { self.source = source }

  var loop: any Loop { source.loop }

  func poll() throws -> Polled<Output> {
    let next = try source.poll()
    guard case .element = next else { return next }
    count += 1
    if count > 1 { throw StreamError.tooSlow(bufferedBytes: 7) }
    return next
  }

  func attachReader(_ waker: any Waker) throws { try source.attachReader(waker) }
  var hasReader: Bool { source.hasReader }
  func detachReader() { source.detachReader() }
  func cancel(_ reason: (any Error)?) { source.cancel(reason) }
}

/// `listen(2)`, which the method of the same name would hide.
private func systemListen(_ descriptor: CInt, _ backlog: CInt) -> CInt { listen(descriptor, backlog) }
