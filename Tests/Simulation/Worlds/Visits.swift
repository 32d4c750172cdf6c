import HTTPTypes
import Logging
import Sluice
import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// A server's handler of a WebSocket, and a client that comes, says something and goes, each in a way of its own. The handler may be a proxy with a server
/// behind it.
///
/// - A handler ends with its connection, also one that does not read.
/// - What comes back is a beginning of what was sent. Where the handler answers, nothing fails and the client waits, it is all of it.
/// - A client that is dropped has said that it goes away.
/// - Who is refused hears of that, and no handler of it.
struct Visits: World {
  enum Handler: String, Codable, CaseIterable, Sendable {
    /// `ws.pipe(ws)`.
    case echoes
    /// Reads and sends, in turn.
    case answers
    /// Takes its time, without reading.
    case sleeps
    /// Reads the first message, and then takes its time.
    case readsOnce
    /// A bridge to another server.
    case proxies
    /// A pipe to another server, whose answers are piped back beside it.
    case relays
  }
  enum Parting: String, Codable, CaseIterable, Sendable {
    /// Closes when it has its answers.
    case waits
    /// Closes at once.
    case closes
    /// Forgets its WebSocket.
    case forgets
    case aborts
    /// Reads nothing, and stays.
    case stays
  }
  var wire: Wire
  /// Of the server behind a proxy.
  var upstream: Wire
  var isSecure: Bool
  var handler: Handler
  var parting: Parting
  var messages: Int
  var size: Int
  var pause: Duration
  var isRefused: Bool
  var shutsDown: Duration?
  var faults: [WireFault]

  init(_ random: inout SeededGenerator) {
    wire = Wire(&random)
    upstream = Wire(&random)
    isSecure = random.chance(4)
    handler = random.pick(Handler.allCases)
    parting = random.pick(Parting.allCases + [.waits])
    messages = random.pick([0, 1, 5, 60])
    size = wire.pieceSize < 1000 || upstream.pieceSize < 1000 ? random.pick([0, 100]) : random.pick([0, 100, 5000])
    pause = .milliseconds(random.pick([0, 0, 5, 100]))
    isRefused = random.chance(8)
    shutsDown = random.chance(8) ? .milliseconds(random.number(0..<3000)) : nil
    faults = []
    for _ in 0..<random.pick([0, 0, 1, 2]) { faults.append(WireFault(&random, connections: 2)) }
  }

  var simpler: [Visits] {
    var worlds: [Visits] = []
    func add(_ change: (inout Visits) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    if isSecure { add { $0.isSecure = false } }
    if wire != .plain { add { $0.wire = .plain } }
    if upstream != .plain { add { $0.upstream = .plain } }
    if messages > 1 { add { $0.messages /= 2 } }
    if size > 0 { add { $0.size = 0 } }
    if pause > .zero { add { $0.pause = .zero } }
    if shutsDown != nil { add { $0.shutsDown = nil } }
    return worlds
  }

  var faultNames: [String] {
    faults.map(\.kind.rawValue) + (shutsDown == nil ? [] : ["shutdown"]) + [
      "client: \(parting)", "handler: \(handler)",
    ]
  }

  var description: String {
    "a visit of \(messages) messages of \(size) bytes, \(pause) apart, over \(wire), TLS \(isSecure); the client \(parting), the handler \(handler)"
      + (isRefused ? ", refused" : "") + ", upstream \(upstream)" + (shutsDown.map { "\n  ! shut down at \($0)" } ?? "")
      + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  func live(on stage: Stage) async throws {
    let wires = stage.connection(wire)
    let others = stage.connection(upstream)
    let log = Log()
    let serving = stage.begin("server") { await serve(over: wires.far, upstream: others.near, log, stage) }
    let behind = stage.begin("upstream") {
      do {
        let socket = try await WebSocket.accept(over: others.far)
        try await socket.pipe(socket)
      } catch { stage.note("upstream: \(type(of: error))") }
      others.far.cancel(nil)
    }
    for fault in faults { fault.apply(to: fault.connection == 0 ? wires : others, on: stage) }
    await visit(over: wires.near, log, stage)
    await serving.value
    others.near.abort(StreamError.aborted)
    await behind.value
    judge(log, stage)
  }

  private func serve(over socket: SimulatedStream, upstream: SimulatedStream, _ log: Log, _ stage: Stage) async {
    var options = WebSocketHandshakeOptions()
    if isRefused { options.onRequest = { _ in throw RequestRejection(status: 403, reason: "not today") } }
    var transport: any PolledDuplexStream<Bytes, Bytes> = socket
    do {
      if isSecure { transport = try await stage.identities.server.accept(over: socket) }
      let ws = try await accept(over: transport, options)
      if isRefused { stage.violate("a request was accepted that was to be refused") }
      if let shutsDown { stage.at(shutsDown) { ws.closeGoingAway() } }
      let logger = Logger(label: "simulate") { _ in SwiftLogNoOpLogHandler() }
      let task = ws.startServing(logger: logger) { ws in
        defer {
          log.handlerEnded(with: ws)
          stage.note("handler ended: \(ws.closeStatus.map { "\($0.code)" } ?? "no Close")")
        }
        try await handle(ws, upstream, log, stage)
      }
      try await task.value
    } catch {
      stage.note("server: \(type(of: error))")
      stage.outcome("visit's server: \(type(of: error))")
    }
  }

  private func accept(
    over transport: some PolledDuplexStream<Bytes, Bytes>, _ options: WebSocketHandshakeOptions
  ) async throws -> WebSocket {
    try await WebSocket.accept(over: transport, options: options)
  }

  private func handle(_ ws: WebSocket, _ upstream: SimulatedStream, _ log: Log, _ stage: Stage) async throws {
    switch handler {
    case .echoes: try await ws.pipe(ws)
    case .answers: for try await message in ws { try await ws.send(message) }
    case .sleeps: try await sleep(log, stage)
    case .readsOnce:
      // Who is told of the end has heard of it.
      if try await ws.read() == nil { return }
      try await sleep(log, stage)
    case .proxies:
      defer { upstream.cancel(nil) }
      try await bridge(ws, try await WebSocket.connect("ws://test/", over: upstream))
    case .relays:
      defer { upstream.cancel(nil) }
      let other = try await WebSocket.connect("ws://test/", over: upstream)
      async let back: Void = other.pipe(ws)
      do { try await ws.pipe(other) } catch {
        try? await back
        throw error
      }
      try await back
    }
  }

  /// Longer than any connection lives that is over.
  private static let wholeSleep = Duration.seconds(600)

  private func sleep(_ log: Log, _ stage: Stage) async throws {
    try await stage.loop.sleep(for: Self.wholeSleep)
    log.sleptToTheEnd()
  }

  private func visit(over stream: SimulatedStream, _ log: Log, _ stage: Stage) async {
    do {
      var transport: any PolledDuplexStream<Bytes, Bytes> = stream
      if isSecure { transport = try await stage.identities.client.connect(over: stream, to: "www.example.com") }
      let ws = try await connect(over: transport)
      if isRefused { stage.violate("a client that is refused has a connection") }
      try await talk(ws, log, stage)
      stage.note("client: done")
    } catch {
      stage.note("client: \(type(of: error))")
      stage.outcome("visit: \(error)".prefix { $0 != "(" && !$0.isNumber }.description)
      if isRefused, faults.allSatisfy(\.isHarmless) {
        guard case WebSocketConnectError.handshake(.refused(403, _, _)) = error else {
          return stage.violate("who was refused heard of another thing: \(error)")
        }
      } else {
        log.clientFailed(error)
      }
    }
  }

  private func connect(over transport: some PolledDuplexStream<Bytes, Bytes>) async throws -> WebSocket {
    try await WebSocket.connect("ws://test/", over: transport)
  }

  private func talk(_ ws: WebSocket, _ log: Log, _ stage: Stage) async throws {
    // A read that waits holds what it reads from.
    let reading =
      parting == .waits || parting == .closes ? stage.begin("client's reader") { await read(ws, log, stage) } : nil
    defer { if parting == .aborts { ws.abort(StreamError.aborted) } }
    do {
      for number in 0..<messages {
        try await ws.send("\(number) " + String(repeating: "v", count: size))
        if pause > .zero { try await stage.loop.sleep(for: pause) }
      }
    } catch {
      stage.outcome("visitor's send: \(type(of: error))")
      await reading?.value
      throw error
    }
    switch parting {
    case .waits:
      if isReading {
        while log.count < messages, !log.hasReaderEnded { try await stage.loop.sleep(for: .milliseconds(10)) }
      }
      try await ws.close()
    case .closes: try await ws.close()
    case .stays: try await stage.loop.sleep(for: .seconds(30))
    case .aborts, .forgets: break
    }
    await reading?.value
    // Who stays has had enough at last.
    if parting == .stays { try await ws.close() }
  }

  private func read(_ ws: WebSocket, _ log: Log, _ stage: Stage) async {
    do {
      for try await message in ws {
        let number = message.text.split(separator: " ", omittingEmptySubsequences: false).first.flatMap { Int($0) }
        if number != log.count { stage.violate("\(message.text.prefix(10)) came back as number \(log.count)") }
        log.didRead()
      }
    } catch {
      stage.outcome("visitor's reader: \(type(of: error))")
      log.clientFailed(error)
    }
    log.readerEnded()
  }

  /// Whether the handler reads to the end.
  private var isReading: Bool { handler != .sleeps && handler != .readsOnce }

  private func judge(_ log: Log, _ stage: Stage) {
    stage.outcome("visit: \(handler), \(parting)")
    if isRefused, log.closeCode != nil { stage.violate("a handler ran for a request that was refused") }
    if log.hasSlept { stage.violate("a handler slept on when its connection was over") }
    guard faults.allSatisfy(\.isHarmless), shutsDown == nil, !isRefused else { return }
    // Who has read and takes its time is given as much of it as the client gives before it cuts the connection.
    if parting == .forgets, isReading, log.failure == nil, let code = log.closeCode, code != .goingAway {
      stage.violate("a client that was dropped said \(code)")
    }
    guard parting == .waits, isReading else { return }
    if log.count < messages { stage.violate("\(log.count) of \(messages) messages came back") }
    if let failure = log.failure { stage.violate("a client failed that closed in good order: \(failure)") }
  }

  /// What has happened on both sides.
  private final class Log: Sendable {
    private struct State {
      var count = 0
      var hasReaderEnded = false
      var hasSlept = false
      var failure: String?
      var closeCode: CloseCode?
    }
    private let state = Mutex(State())

    var count: Int { state.withLock { $0.count } }
    var hasReaderEnded: Bool { state.withLock { $0.hasReaderEnded } }
    var hasSlept: Bool { state.withLock { $0.hasSlept } }
    var failure: String? { state.withLock { $0.failure } }
    /// As the handler's connection ended; nil if there was no handler.
    var closeCode: CloseCode? { state.withLock { $0.closeCode } }

    func didRead() { state.withLock { $0.count += 1 } }
    func readerEnded() { state.withLock { $0.hasReaderEnded = true } }
    func sleptToTheEnd() { state.withLock { $0.hasSlept = true } }
    func clientFailed(_ error: any Error) { state.withLock { if $0.failure == nil { $0.failure = "\(error)" } } }
    func handlerEnded(with socket: WebSocket) {
      let code = socket.closeStatus?.code ?? .abnormal
      state.withLock { $0.closeCode = code }
    }
  }
}
