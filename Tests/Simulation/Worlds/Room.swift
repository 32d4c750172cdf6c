import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// A broadcast with members of different patience, and several writers.
///
/// - Each member gets the elements of each writer in order, none twice.
/// - Under a policy that waits, a member that nothing has happened to gets all.
/// - Nobody is held by a member that is to be cut or passed over.
struct Room: World {
  struct Member: Codable, Sendable {
    var wire: Wire
    /// How long it thinks about each message.
    var thought: Duration
    /// When it leaves by itself.
    var leaves: Duration?
    /// It sends messages in parts meanwhile, behind which the broadcast's wait, and its Close.
    var sendsParts: Bool
    var isCompressed: Bool
  }
  enum Policy: Codable, Sendable {
    case wait
    case waitUpTo(Duration)
    case buffer(Int)
    case dropNewest
    case disconnect
  }
  var members: [Member]
  var policy: Policy
  var writers: Int
  var elements: Int
  var size: Int
  var highWatermark: Int
  /// The first writer is cancelled then.
  var cancels: Duration?
  /// The broadcast is aborted then.
  var aborts: Duration?
  var faults: [WireFault]

  init(_ random: inout SeededGenerator) {
    members = (0..<random.number(1..<5)).map { _ in
      Member(
        wire: Wire(&random), thought: .milliseconds(random.pick([0, 0, 1, 100])),
        leaves: random.chance(5) ? .milliseconds(random.number(0..<1500)) : nil, sendsParts: random.chance(4),
        isCompressed: random.chance(4))
    }
    switch random.number(0..<5) {
    case 0: policy = .wait
    case 1: policy = .waitUpTo(.seconds(random.pick([1, 5])))
    case 2: policy = .buffer(random.pick([1, 5000, 500_000]))
    case 3: policy = .dropNewest
    default: policy = .disconnect
    }
    writers = random.number(1..<4)
    elements = random.pick([1, 10, 60])
    size = random.pick([10, 1000, 20_000])
    highWatermark = random.pick([1, 1000, 64 << 10])
    if members.contains(where: { $0.wire.pieceSize < 1000 }) { size = min(size, 500) }
    cancels = random.chance(5) ? .milliseconds(random.number(0..<1000)) : nil
    aborts = random.chance(10) ? .milliseconds(random.number(0..<1000)) : nil
    faults = []
    for _ in 0..<random.pick([0, 0, 1, 2]) { faults.append(WireFault(&random, connections: members.count)) }
  }

  var simpler: [Room] {
    var worlds: [Room] = []
    func add(_ change: (inout Room) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    if members.count > 1 {
      for index in members.indices where !faults.contains(where: { $0.connection == index }) {
        add { world in
          world.members.remove(at: index)
          world.faults = faults.map { fault in
            var fault = fault
            if fault.connection > index { fault.connection -= 1 }
            return fault
          }
        }
      }
    }
    if writers > 1 { add { $0.writers -= 1 } }
    if elements > 1 { add { $0.elements /= 2 } }
    if cancels != nil { add { $0.cancels = nil } }
    if aborts != nil { add { $0.aborts = nil } }
    for index in members.indices {
      if members[index].wire != .plain { add { $0.members[index].wire = .plain } }
      if members[index].leaves != nil { add { $0.members[index].leaves = nil } }
      if members[index].sendsParts { add { $0.members[index].sendsParts = false } }
      if members[index].thought > .zero { add { $0.members[index].thought = .zero } }
    }
    return worlds
  }

  var faultNames: [String] {
    faults.map(\.kind.rawValue) + (cancels == nil ? [] : ["cancel"]) + (aborts == nil ? [] : ["abort"])
      + members.filter { $0.leaves != nil }.map { _ in "readerLeaves" }
  }

  var description: String {
    "a room, \(policy), mark \(highWatermark), \(writers) writers of \(elements) × \(size) bytes"
      + members.map { "\n  \($0)" }.joined() + (cancels.map { "\n  ! first writer cancelled at \($0)" } ?? "")
      + (aborts.map { "\n  ! aborted at \($0)" } ?? "") + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  func live(on stage: Stage) async throws {
    let room = WebSocketBroadcast(whenSlow: slowPolicy)
    var wires: [(near: SimulatedStream, far: SimulatedStream)] = []
    var parts: [Task<Void, Never>] = []
    let received = Received(members.count, writers)
    let joined = members.map { _ in Flag() }
    for (index, member) in members.enumerated() {
      let (near, far) = stage.connection(member.wire)
      wires.append((near, far))
      let (client, server) = try await open(member, near, far)
      parts.append(
        stage.begin("member \(index)") { await serve(server, member, in: room, stage, joined[index]) })
      parts.append(stage.begin("client \(index)") { await read(client, index, member, received, stage) })
    }
    while !joined.allSatisfy(\.isUp) { try await stage.loop.sleep(for: .milliseconds(1)) }
    for fault in faults { fault.apply(to: wires[fault.connection], on: stage) }
    var writing: [Task<Void, Never>] = []
    for writer in 0..<writers {
      writing.append(stage.begin("writer \(writer)") { await write(writer, to: room, received, stage) })
    }
    if let cancels { stage.at(cancels) { [first = writing[0]] in first.cancel() } }
    if let aborts { stage.at(aborts) { room.abort(StreamError.aborted) } }
    for task in writing { await task.value }
    do { try await room.close() } catch { stage.note("close failed: \(type(of: error))") }
    for part in parts { await part.value }
    if room.count > 0 { stage.violate("\(room.count) members are left in the broadcast") }
    judge(received, stage)
  }

  private var slowPolicy: WebSocketBroadcast.SlowPolicy {
    switch policy {
    case .wait: .wait
    case .waitUpTo(let time): .waitUpTo(time)
    case .buffer(let count): .buffer(count)
    case .dropNewest: .dropNewest
    case .disconnect: .disconnect
    }
  }

  private func open(
    _ member: Member, _ near: SimulatedStream, _ far: SimulatedStream
  ) async throws -> (client: WebSocket, server: WebSocket) {
    var server = WebSocketHandshakeOptions()
    server.connection.writeHighWatermark = highWatermark
    var client = WebSocketRequestOptions()
    if member.isCompressed {
      server.extensions = [PermessageDeflate()]
      client.extensions = [PermessageDeflate()]
    }
    async let accepted = WebSocket.accept(over: far, options: server)
    let connected = try await WebSocket.connect("ws://test/", over: near, options: client)
    return (connected, try await accepted)
  }

  private func serve(
    _ socket: WebSocket, _ member: Member, in room: WebSocketBroadcast, _ stage: Stage, _ hasJoined: Flag
  ) async {
    do {
      try await room.serve(socket) {
        hasJoined.raise()
        if member.sendsParts {
          for number in 0..<20 {
            try await socket.parts.write(MessagePart(kind: .text, bytes: "part", isFinal: false))
            try await stage.loop.sleep(for: .milliseconds(20))
            try await socket.parts.write(MessagePart(kind: .text, bytes: Bytes(" \(number)"), isFinal: true))
          }
        }
        while try await socket.read() != nil {}
      }
      try await socket.close()
    } catch StreamError.closed {
      // The broadcast was closed while it spoke: what it had for this member leaves behind the message.
      try? await socket.close()
    } catch {
      stage.note("member: \(type(of: error))")
      socket.abort(error)
    }
  }

  private func read(
    _ socket: WebSocket, _ index: Int, _ member: Member, _ received: Received, _ stage: Stage
  ) async {
    if let time = member.leaves {
      stage.at(time) {
        received.disturb(index)
        socket.cancel(nil)
      }
    }
    do {
      for try await message in socket {
        let words = message.text.split(separator: " ")
        if words.first == "part" { continue }
        guard words.count >= 2, let writer = Int(words[0]), let number = Int(words[1]) else {
          stage.violate("a message that nobody sent")
          continue
        }
        if let problem = received.note(index, writer, number) { stage.violate(problem) }
        if member.thought > .zero { try await stage.loop.sleep(for: member.thought) }
      }
      stage.note("client \(index): end")
    } catch {
      received.disturb(index)
      stage.note("client \(index): \(type(of: error))")
    }
    socket.cancel(nil)
    try? await socket.close()
  }

  private func write(_ writer: Int, to room: WebSocketBroadcast, _ received: Received, _ stage: Stage) async {
    do {
      for number in 0..<elements {
        let padding = String(repeating: "x", count: size)
        try await room.send("\(writer) \(number) \(padding)")
        if stage.random(in: 0...2) == 0 { try await stage.loop.sleep(for: .milliseconds(stage.random(in: 0...20))) }
      }
      received.finish(writer)
    } catch {
      stage.note("writer \(writer): \(type(of: error))")
    }
  }

  private func judge(_ received: Received, _ stage: Stage) {
    let waits: Bool
    switch policy {
    case .wait, .buffer: waits = true
    case .waitUpTo, .dropNewest, .disconnect: waits = false
    }
    guard waits, aborts == nil else { return }
    for index in members.indices where received.isUndisturbed(index) {
      if faults.contains(where: { $0.connection == index && !$0.isHarmless }) { continue }
      for writer in 0..<writers where received.isFinished(writer) {
        let last = received.last(index, writer)
        if last != elements - 1 { stage.violate("member \(index) got \(last + 1) of \(elements) elements") }
        if received.hasGap(index, writer) {
          stage.violate("member \(index) missed an element of a broadcast that waits")
        }
      }
    }
  }

  /// What each member got of each writer.
  private final class Received: Sendable {
    private struct State {
      var last: [[Int]]
      var gaps: [[Bool]]
      var disturbed: Set<Int> = []
      var finished: Set<Int> = []
    }
    private let state: Mutex<State>

    init(_ members: Int, _ writers: Int) {
      state = Mutex(
        State(
          last: Array(repeating: Array(repeating: -1, count: writers), count: members),
          gaps: Array(repeating: Array(repeating: false, count: writers), count: members)))
    }

    /// - Returns: what is wrong with it.
    func note(_ member: Int, _ writer: Int, _ number: Int) -> String? {
      state.withLock { state in
        let last = state.last[member][writer]
        if number <= last { return "an element came twice, or out of order: \(number) behind \(last)" }
        if number > last + 1 { state.gaps[member][writer] = true }
        state.last[member][writer] = number
        return nil
      }
    }

    func last(_ member: Int, _ writer: Int) -> Int { state.withLock { $0.last[member][writer] } }
    func hasGap(_ member: Int, _ writer: Int) -> Bool { state.withLock { $0.gaps[member][writer] } }
    func disturb(_ member: Int) { state.withLock { _ = $0.disturbed.insert(member) } }
    func isUndisturbed(_ member: Int) -> Bool { state.withLock { !$0.disturbed.contains(member) } }
    func finish(_ writer: Int) { state.withLock { _ = $0.finished.insert(writer) } }
    func isFinished(_ writer: Int) -> Bool { state.withLock { $0.finished.contains(writer) } }
  }
}
