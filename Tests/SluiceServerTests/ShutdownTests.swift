import Sluice
import SluiceServer
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@Suite("A server's end gives what its handlers have sent, wherever they are", .timeLimit(.minutes(2)))
struct ShutdownTests {
  /// Where a handler is when its server stops.
  enum HandlerState: CaseIterable {
    /// It has sent what it had, and waits for the end.
    case waiting
    /// It waits for something else than its connection.
    case sleeping
    /// The same, and it goes on for a while after it was cancelled.
    case tidyingUp
    /// It waits for room.
    case sending
    /// Its connection is a member of a broadcast that waits for room.
    case broadcasting
    /// It pipes into its connection, which has no room.
    case piping
    /// It has closed, and waits until that is done.
    case closing
    /// It has closed, and is not done yet.
    case closed
    /// What it throws comes of the end.
    case throwing

    /// Whether more has been sent than the system takes.
    var isFull: Bool {
      switch self {
      case .sending, .broadcasting, .piping, .closing, .throwing: true
      case .waiting, .sleeping, .tidyingUp, .closed: false
      }
    }
  }

  private static let text = String(repeating: "x", count: 10_000)
  /// Bytes beyond what the system takes for a peer that reads nothing.
  private static let long = String(repeating: "y", count: 20 << 20)

  /// How many bytes have been sent, and what has happened.
  private final class Record: Sendable {
    private let state = Mutex((sent: 0, isHandlerDone: false, isServerDone: false))
    var sent: Int { state.withLock { $0.sent } }
    var isHandlerDone: Bool { state.withLock { $0.isHandlerDone } }
    var isServerDone: Bool { state.withLock { $0.isServerDone } }
    func didSend(_ text: String) { state.withLock { $0.sent += text.utf8.count } }
    func handlerIsDone() { state.withLock { $0.isHandlerDone = true } }
    func serverIsDone() { state.withLock { $0.isServerDone = true } }

    /// Returns when something was sent, and nothing more is.
    func waitUntilQuiet() async throws {
      var before = -1
      while sent == 0 || before != sent {
        before = sent
        try await Task.sleep(for: .milliseconds(300))
      }
    }
  }

  /// What a handler does with a connection of either kind.
  private struct Handling<Connection: PolledWritableStream>: Sendable {
    let state: HandlerState
    let record: Record
    let element: @Sendable (String) -> Connection.Input
    let waitUntilClosed: @Sendable (Connection) async throws -> Void
    let join: @Sendable (Connection) async throws -> Void

    func handle(_ connection: Connection) async throws {
      defer { record.handlerIsDone() }
      switch state {
      case .waiting, .sleeping, .tidyingUp, .closed:
        for _ in 0..<5 { try await send(ShutdownTests.text, connection) }
      case .closing:
        // Without waiting for room: `close` is to wait.
        record.didSend(ShutdownTests.long)
        try connection.push(element(ShutdownTests.long))
      case .sending, .broadcasting, .piping, .throwing: break
      }
      switch state {
      case .waiting: try await waitUntilClosed(connection)
      case .sleeping: try await Task.sleep(for: .seconds(60))
      case .tidyingUp:
        try? await Task.sleep(for: .seconds(60))
        try await Task { try await Task.sleep(for: .milliseconds(200)) }.value
      case .sending: while true { try await send(ShutdownTests.text, connection) }
      case .throwing:
        do { while true { try await send(ShutdownTests.text, connection) } } catch { throw Refusal() }
      case .broadcasting: try await join(connection)
      case .piping:
        let (record, element) = (record, element)
        try await Readable<Connection.Input> {
          record.didSend(ShutdownTests.text)
          return element(ShutdownTests.text)
        }.pipe(connection)
      case .closing: try await connection.close()
      case .closed:
        try await connection.close()
        try await Task.sleep(for: .milliseconds(500))
      }
    }

    private func send(_ text: String, _ connection: Connection) async throws {
      try await connection.write(element(text))
      record.didSend(text)
    }
  }

  private struct Refusal: Error {}

  /// Runs a server until its handler is where it should be, stops it, and lets the client read then.
  private func stop<Client: Sendable>(
    _ state: HandlerState, _ record: Record, isHandlerTold: Bool = true,
    _ run: @escaping @Sendable () async throws -> Void,
    connect: () async throws -> Client, readAll: @escaping @Sendable (Client) async throws -> Int
  ) async throws {
    let running = Task {
      defer { record.serverIsDone() }
      try await run()
    }
    defer { running.cancel() }
    let client = try await connect()
    try await record.waitUntilQuiet()
    // The last one of a pipe may not have been moved.
    let sent = record.sent - (state == .piping ? Self.text.utf8.count : 0)
    let start = ContinuousClock().now
    running.cancel()
    try await Task.sleep(for: .milliseconds(300))
    // Whoever ends its program behind `run` would lose the rest.
    if state.isFull { #expect(!record.isServerDone) }
    let received = try await withTaskExecutorPreference(UVLoop.shared) { try await readAll(client) }
    #expect(received >= sent)
    await #expect(throws: CancellationError.self) { try await running.value }
    #expect(record.isHandlerDone)
    // Long before `shutdownTimeout`, if its handler was told: nobody had to be cut.
    if isHandlerTold { #expect(ContinuousClock().now - start < .seconds(9)) }
  }

  @Test("of event streams", arguments: HandlerState.allCases, [false, true])
  func events(state: HandlerState, isSecure: Bool) async throws {
    let certificates = try await Certificates.load()
    let record = Record()
    var options = HTTPServerOptions()
    if isSecure { options.tls = try certificates.server() }
    let server = try await EventSourceServer.listen(
      "\(isSecure ? "https" : "http")://127.0.0.1:0/feed", server: options)
    let broadcast = EventBroadcast(whenSlow: .wait)
    let handling = Handling<EventStreamConnection>(
      state: state, record: record, element: { ServerSentEvent($0) },
      waitUntilClosed: { try await $0.waitUntilClosed() },
      join: { try await broadcast.serve($0) })
    let writing = Task {
      guard state == .broadcasting else { return }
      while broadcast.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
      while broadcast.count > 0 {
        try await broadcast.write(ServerSentEvent(Self.text))
        record.didSend(Self.text)
      }
    }
    defer { writing.cancel() }
    try await stop(state, record) {
      try await server.run { try await handling.handle($0) }
    } connect: {
      let socket = try await TCP.connect("127.0.0.1", port: server.port)
      let stream: any PolledDuplexStream<Bytes, Bytes> =
        isSecure ? try await certificates.client().connect(over: socket, to: "127.0.0.1") : socket
      try await stream.write("GET /feed HTTP/1.1\r\nHost: a\r\n\r\n")
      return stream
    } readAll: { stream in
      var count = 0
      var tail = Bytes()
      while let chunk = try await stream.read() {
        count += chunk.count
        tail = tail.suffix(7).followed(by: chunk).suffix(7).compacted()
      }
      stream.abort(StreamError.aborted)
      // RFC 9112 §7.1: nothing is missing.
      #expect(tail == "\r\n0\r\n\r\n")
      return count
    }
  }

  @Test("of WebSockets", arguments: HandlerState.allCases, [false, true])
  func webSockets(state: HandlerState, isRoute: Bool) async throws {
    let record = Record()
    let room = WebSocketBroadcast(whenSlow: .wait)
    let handling = Handling<WebSocket>(
      state: state, record: record, element: { .binary(Bytes($0)) }, waitUntilClosed: { _ = try await $0.read() },
      join: { ws in try await room.serve(ws) { _ = try await ws.read() } })
    let writing = Task {
      guard state == .broadcasting else { return }
      while room.count == 0 { try await Task.sleep(for: .milliseconds(5)) }
      while room.count > 0 {
        try await room.write(.binary(Bytes(Self.text)))
        record.didSend(Self.text)
      }
    }
    defer { writing.cancel() }
    let run: @Sendable () async throws -> Void
    let port: Int
    if isRoute {
      let server = try await HTTPServer.listen("http://127.0.0.1:0")
      port = server.port
      run = { try await server.run(routes: [.webSocket("/") { try await handling.handle($0) }]) }
    } else {
      let server = try await WebSocketServer.listen("ws://127.0.0.1:0")
      port = server.port
      run = { try await server.run { try await handling.handle($0) } }
    }
    try await stop(state, record, isHandlerTold: state != .sleeping && state != .tidyingUp, run) {
      try await WebSocket.connect("ws://127.0.0.1:\(port)/")
    } readAll: { ws in
      var count = 0
      do { while let message = try await ws.read() { count += message.byteCount } } catch {}
      let code = ws.closeStatus?.code
      #expect(code == (state == .closing || state == .closed ? .normal : .goingAway))
      return count
    }
  }
}
