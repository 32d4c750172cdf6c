import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// Two ends of a WebSocket, whose tasks do all that can be done with one, at times of their own.
///
/// - The messages of one sender come in order, none twice, and none that its sender was told is not sent.
/// - Where the connection is closed in good order by the side that has sent, all that it sent arrives at one who reads to the end.
/// - What has ended stays ended, and fails with one error.
/// - A ping is answered or fails, and every call returns.
struct Talk: World {
  struct Side: Codable, Sendable {
    var senders: Int
    var messages: Int
    var size: Int
    /// Between two messages.
    var pause: Duration
    var thought: Duration
    var readsParts: Bool
    var pings: Int
    /// A sender is cancelled now and then.
    var cancelsSends: Bool
    /// A read is cancelled now and then.
    var cancelsReads: Bool
    /// It stops reading for a time.
    var rests: Duration?
    var keepalive: Duration?
    var idle: Duration?
    /// How long the peer may take nothing.
    var stall: Duration?
    var highWatermark: Int
  }
  enum Ending: Codable, Sendable {
    case close(side: Int, at: Duration)
    /// The same, and from the beginning its system takes nothing of what the other sends.
    case closesFull(side: Int, at: Duration)
    case bothClose(at: Duration)
    case abort(side: Int, at: Duration)
    case leave(side: Int, at: Duration)
    /// When all is said.
    case whenDone(side: Int)
  }
  var wire: Wire
  var isSecure: Bool
  var isCompressed: Bool
  var sides: [Side]
  var ending: Ending
  var maxMessageSize: Int?
  var faults: [WireFault]

  init(_ random: inout SeededGenerator) {
    wire = Wire(&random)
    isSecure = random.chance(4)
    isCompressed = random.chance(3)
    let small = wire.pieceSize < 1000
    sides = (0..<2).map { _ in
      Side(
        senders: random.number(0..<4), messages: random.pick([1, 5, 30]),
        size: small ? random.pick([0, 10, 300]) : random.pick([0, 10, 3000, 30_000]),
        pause: .milliseconds(random.pick([0, 0, 5, 2000])), thought: .milliseconds(random.pick([0, 0, 1, 200])),
        readsParts: random.chance(3), pings: random.pick([0, 0, 3]), cancelsSends: random.chance(4),
        cancelsReads: random.chance(4), rests: random.chance(3) ? .seconds(random.number(1..<90)) : nil,
        keepalive: random.chance(3) ? .milliseconds(random.number(random.pick([300..<3000, 1000..<30_000]))) : nil,
        idle: random.chance(5) ? .seconds(random.number(1..<30)) : nil,
        stall: random.chance(3) ? .seconds(random.number(1..<6)) : nil, highWatermark: random.pick([1, 1000, 64 << 10]))
    }
    let time = Duration.milliseconds(random.number(0..<3000))
    let side = random.number(0..<2)
    switch random.number(0..<7) {
    case 6:
      ending = .closesFull(side: side, at: time)
      // The other side is not at its end when it gives up.
      sides[1 - side].stall = .seconds(random.number(1..<6))
      sides[1 - side].rests = .seconds(random.number(5..<30))
    case 0: ending = .close(side: side, at: time)
    case 1: ending = .bothClose(at: time)
    case 2: ending = .abort(side: side, at: time)
    case 3: ending = .leave(side: side, at: time)
    default: ending = .whenDone(side: side)
    }
    maxMessageSize = random.chance(8) ? random.number(1..<2000) : nil
    faults = []
    for _ in 0..<random.pick([0, 0, 1, 2]) { faults.append(WireFault(&random, connections: 1)) }
  }

  var simpler: [Talk] {
    var worlds: [Talk] = []
    func add(_ change: (inout Talk) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    if wire != .plain { add { $0.wire = .plain } }
    if isSecure { add { $0.isSecure = false } }
    if isCompressed { add { $0.isCompressed = false } }
    if maxMessageSize != nil { add { $0.maxMessageSize = nil } }
    for index in sides.indices {
      let side = sides[index]
      if side.senders > 0 { add { $0.sides[index].senders -= 1 } }
      if side.messages > 1 { add { $0.sides[index].messages /= 2 } }
      if side.size > 0 { add { $0.sides[index].size /= 4 } }
      if side.pause > .zero { add { $0.sides[index].pause = .zero } }
      if side.thought > .zero { add { $0.sides[index].thought = .zero } }
      if side.readsParts { add { $0.sides[index].readsParts = false } }
      if side.pings > 0 { add { $0.sides[index].pings = 0 } }
      if side.cancelsSends { add { $0.sides[index].cancelsSends = false } }
      if side.cancelsReads { add { $0.sides[index].cancelsReads = false } }
      if side.rests != nil { add { $0.sides[index].rests = nil } }
      if side.keepalive != nil { add { $0.sides[index].keepalive = nil } }
      if side.idle != nil { add { $0.sides[index].idle = nil } }
      if side.stall != nil { add { $0.sides[index].stall = nil } }
      if side.highWatermark != 64 << 10 { add { $0.sides[index].highWatermark = 64 << 10 } }
    }
    return worlds
  }

  var faultNames: [String] {
    faults.map(\.kind.rawValue) + [String("\(ending)".prefix { $0 != "(" })]
      + sides.flatMap { ($0.cancelsSends ? ["cancel"] : []) + ($0.cancelsReads ? ["cancel"] : []) }
  }

  var description: String {
    "a talk over \(wire), TLS \(isSecure), compressed \(isCompressed), limit \(maxMessageSize.map { "\($0)" } ?? "none"), ends: \(ending)"
      + sides.map { "\n  \($0)" }.joined() + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  func live(on stage: Stage) async throws {
    let wires = stage.connection(wire)
    var near: any PolledDuplexStream<Bytes, Bytes> = wires.near
    var far: any PolledDuplexStream<Bytes, Bytes> = wires.far
    if isSecure {
      async let accepted = stage.identities.server.accept(over: wires.far)
      near = try await stage.identities.client.connect(over: wires.near, to: "www.example.com")
      far = try await accepted
    }
    let (client, server) = try await open(near, far)
    let sockets = [client, server]
    let tallies = [Tally(), Tally()]
    var tasks: [Task<Void, Never>] = []
    for index in 0..<2 {
      let (side, socket) = (sides[index], sockets[index])
      var sending: [Task<Void, Never>] = []
      for sender in 0..<side.senders {
        sending.append(
          stage.begin("sender \(index).\(sender)") { await send(sender, side, socket, tallies[index], stage) })
      }
      tasks.append(
        stage.begin("reader \(index)") { await read(side, socket, tallies[1 - index], tallies[index], stage) })
      tasks.append(stage.begin("pinger \(index)") { await ping(side, socket, stage) })
      tasks.append(
        stage.begin("ender \(index)") { [sending] in
          await end(index, socket, stage) { for task in sending { await task.value } }
          for task in sending { await task.value }
        })
    }
    for fault in faults { fault.apply(to: wires, on: stage) }
    if case .closesFull(let side, let time) = ending {
      let sender = side == 0 ? wires.far : wires.near
      sender.stall(true)
      stage.at(time + .seconds(15)) { sender.stall(false) }
    }
    for task in tasks { await task.value }
    for (index, socket) in sockets.enumerated() { await expectEnd(of: socket, index, stage) }
    judge(tallies, stage)
  }

  private func open(
    _ near: some PolledDuplexStream<Bytes, Bytes>, _ far: some PolledDuplexStream<Bytes, Bytes>
  ) async throws -> (WebSocket, WebSocket) {
    var server = WebSocketHandshakeOptions()
    var client = WebSocketRequestOptions()
    set(&client.connection, sides[0])
    set(&server.connection, sides[1])
    if let maxMessageSize { server.connection.maxMessageSize = maxMessageSize }
    if isCompressed {
      server.extensions = [PermessageDeflate()]
      client.extensions = [PermessageDeflate()]
    }
    async let accepted = WebSocket.accept(over: far, options: server)
    let connected = try await WebSocket.connect("ws://test/", over: near, options: client)
    return (connected, try await accepted)
  }

  private func set(_ options: inout WebSocketOptions, _ side: Side) {
    options.writeHighWatermark = side.highWatermark
    options.idleTimeout = side.idle
    if let stall = side.stall { options.stallTimeout = stall }
    options.keepalive = side.keepalive.map { WebSocketOptions.Keepalive(interval: $0, timeout: $0) }
  }

  private func send(_ sender: Int, _ side: Side, _ socket: WebSocket, _ tally: Tally, _ stage: Stage) async {
    for number in 0..<side.messages {
      let text = "\(sender) \(number) " + String(repeating: "y", count: side.size)
      let sending = Task(executorPreference: stage.loop) { try await socket.send(text) }
      if side.cancelsSends, stage.random(in: 0...3) == 0 {
        stage.at(.milliseconds(stage.random(in: 0...3))) { sending.cancel() }
      }
      tally.begin(sender, number)
      do {
        try await sending.value
        tally.sent(sender, number)
      } catch is CancellationError {
        tally.notSent(sender, number)
      } catch {
        stage.outcome("send: \(type(of: error))")
        return
      }
      if side.pause > .zero { try? await stage.loop.sleep(for: side.pause) }
    }
  }

  private func read(_ side: Side, _ socket: WebSocket, _ theirs: Tally, _ ours: Tally, _ stage: Stage) async {
    if let rest = side.rests { try? await stage.loop.sleep(for: rest) }
    var text = ""
    do {
      while true {
        let reading = Task(executorPreference: stage.loop) { () async throws -> (Bytes, Bool)? in
          if side.readsParts { return try await socket.parts.read().map { ($0.bytes, $0.isFinal) } }
          return try await socket.read().map { ($0.bytes, true) }
        }
        if side.cancelsReads, stage.random(in: 0...3) == 0 {
          stage.at(.milliseconds(stage.random(in: 0...30))) { reading.cancel() }
        }
        let next: (Bytes, Bool)?
        do { next = try await reading.value } catch is CancellationError { continue }
        guard let (bytes, isFinal) = next else { break }
        text += bytes.string
        guard isFinal else { continue }
        let words = text.split(separator: " ", omittingEmptySubsequences: false)
        text = ""
        guard words.count == 3, let sender = Int(words[0]), let number = Int(words[1]) else {
          stage.violate("a message that nobody sent")
          continue
        }
        if let problem = theirs.received(sender, number) { stage.violate(problem) }
        if side.thought > .zero { try await stage.loop.sleep(for: side.thought) }
      }
      stage.note("reader: end")
      theirs.didReadToGoodEnd()
    } catch {
      stage.note("reader: \(type(of: error))")
      stage.outcome("talk: \(error)".prefix { $0 != "(" && !$0.isNumber }.description)
    }
  }

  private func ping(_ side: Side, _ socket: WebSocket, _ stage: Stage) async {
    for _ in 0..<side.pings {
      try? await stage.loop.sleep(for: .milliseconds(stage.random(in: 0...1500)))
      do { try await socket.ping() } catch { stage.outcome("ping: \(type(of: error))") }
    }
  }

  private func end(_ index: Int, _ socket: WebSocket, _ stage: Stage, _ whenSent: () async -> Void) async {
    func close(_ code: CloseCode) async {
      do { try await socket.close(code, "bye") } catch { stage.outcome("close: \(type(of: error))") }
    }
    switch ending {
    case .close(index, let time), .closesFull(index, let time):
      try? await stage.loop.sleep(for: time)
      await close(.normal)
    case .bothClose(let time):
      try? await stage.loop.sleep(for: time)
      await close(.goingAway)
    case .abort(index, let time):
      try? await stage.loop.sleep(for: time)
      socket.abort(StreamError.aborted)
    case .leave(index, let time):
      try? await stage.loop.sleep(for: time)
      socket.cancel(nil)
    case .whenDone(index):
      await whenSent()
      await close(.normal)
    case .close, .closesFull, .abort, .leave, .whenDone:
      await socket.waitUntilClosed()
    }
  }

  /// All that can be asked of it says the same, again and again.
  private func expectEnd(of socket: WebSocket, _ index: Int, _ stage: Stage) async {
    await socket.waitUntilClosed()
    var ends: Set<String> = []
    for _ in 0..<3 {
      do {
        if try await socket.read() != nil { return stage.violate("a message behind the end") }
        ends.insert("end")
      } catch { ends.insert("\(error)") }
    }
    if ends.count > 1 { stage.violate("side \(index) ends in several ways: \(ends.sorted())") }
    do {
      try await socket.send("late")
      stage.violate("side \(index) took a message behind the end")
    } catch {}
    if socket.readyState == .open { stage.violate("side \(index) is open behind the end") }
    stage.note("side \(index) ended: \(ends.sorted())")
  }

  private func judge(_ tallies: [Tally], _ stage: Stage) {
    guard faults.allSatisfy(\.isHarmless), maxMessageSize == nil, case .whenDone(let side) = ending else { return }
    if sides.contains(where: {
      $0.idle != nil || $0.stall != nil || $0.keepalive != nil || ($0.rests ?? .zero) > .seconds(8)
    }) {
      return
    }
    // What takes longer to be read than a peer may be silent is given up.
    if sides[1 - side].thought > .milliseconds(1) || wire.pieceSize < 1000 { return }
    guard tallies[side].wasReadToGoodEnd else {
      return stage.violate("the end of a connection that was closed in good order was a bad one")
    }
    let lost = tallies[side].lost
    if lost > 0 { stage.violate("lost before a good end: \(lost) messages") }
  }

  /// What one side has sent, and what of that came.
  private final class Tally: Sendable {
    private struct State {
      var sent: [Int: Set<Int>] = [:]
      var begun: [Int: Set<Int>] = [:]
      var notSent: [Int: Set<Int>] = [:]
      var received: [Int: [Int]] = [:]
      var isGoodEnd = false
    }
    private let state = Mutex(State())

    func begin(_ sender: Int, _ number: Int) { state.withLock { _ = $0.begun[sender, default: []].insert(number) } }
    func sent(_ sender: Int, _ number: Int) { state.withLock { _ = $0.sent[sender, default: []].insert(number) } }
    func notSent(_ sender: Int, _ number: Int) { state.withLock { _ = $0.notSent[sender, default: []].insert(number) } }
    func didReadToGoodEnd() { state.withLock { $0.isGoodEnd = true } }
    var wasReadToGoodEnd: Bool { state.withLock { $0.isGoodEnd } }

    func received(_ sender: Int, _ number: Int) -> String? {
      state.withLock { state in
        defer { state.received[sender, default: []].append(number) }
        if let last = state.received[sender]?.last, number <= last {
          return "a message came twice, or out of order: \(number) behind \(last)"
        }
        if state.notSent[sender]?.contains(number) == true { return "a message came whose sending was cancelled" }
        if state.begun[sender]?.contains(number) != true { return "a message came that was not sent" }
        return nil
      }
    }

    var lost: Int {
      state.withLock { state in
        state.sent.reduce(0) { $0 + $1.value.subtracting(state.received[$1.key] ?? []).count }
      }
    }
  }
}
