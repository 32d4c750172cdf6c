import Sluice
import SluiceClient
import SluiceEventSource
import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// What happens to the connections of a client that comes back, one after the other; the last has no end but its own.
struct Trouble: Codable, Sendable {
  enum Kind: String, Codable, CaseIterable, Sendable {
    case refused, reset, cut, silence, none
    /// The server's system takes nothing for a time, and then the connection is reset.
    case choked
  }
  var kind: Kind
  var after: Duration

  init(_ random: inout SeededGenerator) {
    kind = random.pick(Kind.allCases)
    after = .milliseconds(random.number(0..<3000))
  }

  func apply(to wire: (near: SimulatedStream, far: SimulatedStream), on stage: Stage) {
    stage.at(after) {
      switch kind {
      case .reset: wire.far.abort(ConnectionReset())
      case .cut: wire.far.closeWhenFlushed { _ in }
      case .silence: wire.far.stall(true)
      case .choked:
        wire.near.stall(true)
        stage.at(.milliseconds(500)) { wire.far.abort(ConnectionReset()) }
      case .refused, .none: break
      }
    }
  }
}

/// A client of an event stream, whose server goes on behind the event that the client has seen last: each event comes once, in order, whatever
/// happens to the connections.
struct ReturningEvents: World {
  var wire: Wire
  var troubles: [Trouble]
  var events: Int
  var size: Int
  var pause: Duration
  var thought: Duration
  var isCompressed: Bool
  var leaves: Duration?
  /// A second task of the server's sends events that do not count.
  var isChatty: Bool
  /// How long the client may take nothing.
  var stall: Duration

  init(_ random: inout SeededGenerator) {
    wire = Wire(&random)
    troubles = (0..<random.number(0..<5)).map { _ in Trouble(&random) }
    events = random.pick([0, 1, 10, 60])
    size = random.pick([0, 10, wire.pieceSize < 1000 ? 50 : 5000])
    pause = .milliseconds(random.pick([0, 10, 100]))
    thought = .milliseconds(random.pick([0, 0, 30]))
    isCompressed = random.chance(3)
    leaves = random.chance(5) ? .milliseconds(random.number(0..<10_000)) : nil
    isChatty = random.chance(3)
    stall = .seconds(random.pick([10, 60]))
  }

  var simpler: [ReturningEvents] {
    var worlds: [ReturningEvents] = []
    func add(_ change: (inout ReturningEvents) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in troubles.indices { add { $0.troubles.remove(at: index) } }
    if wire != .plain { add { $0.wire = .plain } }
    if events > 1 { add { $0.events /= 2 } }
    if size > 0 { add { $0.size = 0 } }
    if pause > .zero { add { $0.pause = .zero } }
    if thought > .zero { add { $0.thought = .zero } }
    if isCompressed { add { $0.isCompressed = false } }
    if isChatty { add { $0.isChatty = false } }
    if leaves != nil { add { $0.leaves = nil } }
    return worlds
  }

  var faultNames: [String] { troubles.map(\.kind.rawValue) + (leaves == nil ? [] : ["readerLeaves"]) }

  var description: String {
    "\(events) events of \(size) bytes, \(pause) apart, over \(wire), compressed \(isCompressed), chatty \(isChatty), thought about for \(thought)"
      + (leaves.map { ", left at \($0)" } ?? "") + troubles.map { "\n  ! \($0)" }.joined()
  }

  func live(on stage: Stage) async throws {
    let count = Mutex(0)
    var options = EventSourceClientOptions()
    options.jitter = { 0.5 }
    options.silenceTimeout = .seconds(20)
    options.reconnects = true
    let open: EventSourceClient.Opener = { _, _ in
      let number = count.withLock { count in
        defer { count += 1 }
        return count
      }
      let trouble = number < troubles.count ? troubles[number] : nil
      if trouble?.kind == .refused { throw StreamError.closed }
      let wires = stage.connection(wire)
      trouble?.apply(to: wires, on: stage)
      stage.begin("server \(number)") { await serve(wires.far, stage) }
      return RequestRoute(wires.near)
    }
    let client: EventSourceClient
    do { client = try await EventSource.connect("http://test/feed", options: options, on: stage.loop, open) } catch {
      // Only what was there at the first time is repaired.
      stage.outcome("first connection: \(type(of: error))")
      if troubles.isEmpty && events > 0 { stage.violate("the first connection failed: \(error)") }
      return
    }
    if let leaves { stage.at(leaves) { client.cancel(nil) } }
    var last = 0
    do {
      while let event = try await client.read() {
        if event.event == "chat" { continue }
        stage.note("event \(event.id ?? "")")
        guard let number = event.id.flatMap({ Int($0) }), number == last + 1 else {
          stage.violate("event \(event.id ?? "none") came behind \(last)")
          break
        }
        last = number
        if event.data.utf8.count != size { stage.violate("an event of another length") }
        if thought > .zero { try await stage.loop.sleep(for: thought) }
      }
      if leaves == nil { stage.violate("a good end behind \(last) of \(events) events, which nobody has said") }
      for _ in 0..<2 where try await client.read() != nil { stage.violate("an event behind the end") }
    } catch EventSourceError.refused(404, _, _) {
      if last != events { stage.violate("\(last) of \(events) events came before the end") }
      do {
        _ = try await client.read()
        stage.violate("an end that was final is none")
      } catch {}
    } catch {
      stage.outcome("events: \(type(of: error))")
      if leaves == nil { stage.violate("a client that comes back failed: \(error)") }
    }
    client.cancel(nil)
  }

  private func serve(_ stream: SimulatedStream, _ stage: Stage) async {
    var options = EventSourceServerOptions()
    options.compresses = isCompressed
    options.retry = .milliseconds(500)
    options.stallTimeout = stall
    options.onRequest = { request in
      // All was seen.
      let last = request.headerFields.first { $0.name.canonicalName == "last-event-id" }.flatMap { Int($0.value) } ?? 0
      if last >= events { throw RequestRejection(status: 404, reason: "no more") }
      return [:]
    }
    do {
      let connection = try await EventSource.accept(over: stream, options: options)
      let last = connection.lastEventID.flatMap { Int($0) } ?? 0
      if isChatty {
        stage.begin("chat") {
          while true {
            try await connection.send(String(repeating: "c", count: size), event: "chat")
            try await stage.loop.sleep(for: pause + .milliseconds(1))
          }
        }
      }
      for number in (last + 1)...max(events, last + 1) where number <= events {
        try await connection.send(String(repeating: "z", count: size), id: "\(number)")
        if pause > .zero { try await stage.loop.sleep(for: pause) }
      }
      try await connection.close()
    } catch {
      stage.outcome("event server: \(type(of: error))")
    }
  }
}

/// A stream of messages over one connection after another: what is written arrives at most once, in order, and all of it where no connection was lost.
struct Returning: World {
  var wire: Wire
  var troubles: [Trouble]
  var messages: Int
  var size: Int
  var pause: Duration
  /// Bytes rather than messages.
  var isPlain: Bool
  var cancels: Duration?
  var reads: Bool
  /// Between the making of a connection and its use.
  var handover: Duration
  /// How long the client thinks about what it reads.
  var thought: Duration

  init(_ random: inout SeededGenerator) {
    wire = Wire(&random)
    troubles = (0..<random.number(0..<5)).map { _ in Trouble(&random) }
    messages = random.pick([0, 1, 10, 100])
    size = wire.pieceSize < 1000 ? random.pick([0, 100]) : random.pick([0, 100, 5000])
    pause = .milliseconds(random.pick([0, 10, 200]))
    isPlain = random.chance(2)
    cancels = random.chance(6) ? .milliseconds(random.number(0..<5000)) : nil
    reads = !random.chance(4)
    handover = .milliseconds(random.pick([0, 0, 1000]))
    thought = .milliseconds(random.pick([0, 0, 5000]))
  }

  var simpler: [Returning] {
    var worlds: [Returning] = []
    func add(_ change: (inout Returning) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in troubles.indices { add { $0.troubles.remove(at: index) } }
    if wire != .plain { add { $0.wire = .plain } }
    if messages > 1 { add { $0.messages /= 2 } }
    if size > 0 { add { $0.size = 0 } }
    if pause > .zero { add { $0.pause = .zero } }
    if cancels != nil { add { $0.cancels = nil } }
    if handover > .zero { add { $0.handover = .zero } }
    if thought > .zero { add { $0.thought = .zero } }
    return worlds
  }

  var faultNames: [String] { troubles.map(\.kind.rawValue) + (cancels == nil ? [] : ["cancel"]) }

  var description: String {
    "\(messages) \(isPlain ? "lines" : "messages") of \(size) bytes, \(pause) apart, over \(wire) that is made again, handed over in \(handover), read \(reads), thought about for \(thought)"
      + (cancels.map { ", cancelled at \($0)" } ?? "") + troubles.map { "\n  ! \($0)" }.joined()
  }

  func live(on stage: Stage) async throws {
    let heard = Heard(stage)
    if isPlain { return try await lives(lines(stage, heard), heard, stage) { Bytes($0 + "\n") } }
    try await lives(sockets(stage, heard), heard, stage) { Message($0) }
  }

  private func lives<Element: Sendable>(
    _ stream: ReconnectingStream<Element, Element>, _ heard: Heard, _ stage: Stage,
    _ element: @escaping @Sendable (String) -> Element
  ) async throws {
    let writing = stage.begin("writer") {
      do {
        for number in 0..<messages {
          try await stream.write(element("\(number) " + String(repeating: "w", count: size)))
          if pause > .zero { try await stage.loop.sleep(for: pause) }
        }
        try await stream.close()
        stage.note("closed")
      } catch {
        stage.outcome("returning writer: \(type(of: error))")
        stream.abort(error)
      }
    }
    if let cancels { stage.at(cancels) { writing.cancel() } }
    let reading = stage.begin("reader") {
      guard reads else { return }
      do {
        while try await stream.read() != nil { if thought > .zero { try await stage.loop.sleep(for: thought) } }
      } catch { stage.outcome("returning reader: \(type(of: error))") }
    }
    await writing.value
    if !reads { stream.cancel(nil) }
    await reading.value
    stream.cancel(nil)
    stream.abort(StreamError.aborted)
    try await stage.loop.sleep(for: .seconds(60))
    let isUndisturbed = cancels == nil && reads && troubles.allSatisfy { $0.kind == .none || $0.kind == .refused }
    if isUndisturbed && heard.last != messages - 1 {
      stage.violate("\(heard.last + 1) of \(messages) messages came, though no connection was lost")
    }
    if isUndisturbed && heard.hasGap { stage.violate("a message was lost, though no connection was") }
  }

  /// What the server's side hears, in order.
  private final class Heard: Sendable {
    private let state = Mutex((last: -1, hasGap: false, connections: 0))
    private let stage: Stage

    init(_ stage: Stage) { self.stage = stage }

    var last: Int { state.withLock { $0.last } }
    var hasGap: Bool { state.withLock { $0.hasGap } }

    func nextConnection() -> Int {
      state.withLock { state in
        defer { state.connections += 1 }
        return state.connections
      }
    }

    func note(_ text: some StringProtocol) {
      stage.note("heard \(text.prefix { $0 != " " })")
      guard let number = text.split(separator: " ").first.flatMap({ Int($0) }) else {
        return stage.violate("something was heard that was not said")
      }
      state.withLock { state in
        if number <= state.last { stage.violate("heard twice, or out of order: \(number) behind \(state.last)") }
        if number > state.last + 1 { state.hasGap = true }
        state.last = number
      }
    }
  }

  private func next(
    _ stage: Stage, _ heard: Heard
  ) async throws -> (number: Int, wires: (near: SimulatedStream, far: SimulatedStream))? {
    try await stage.loop.sleep(for: .milliseconds(300))
    let number = heard.nextConnection()
    let trouble = number < troubles.count ? troubles[number] : nil
    if trouble?.kind == .refused { return nil }
    let wires = stage.connection(wire)
    trouble?.apply(to: wires, on: stage)
    return (number, wires)
  }

  /// Lines over plain connections. The rest of a line that a lost connection had begun is not sent again.
  private func lines(_ stage: Stage, _ heard: Heard) -> ReconnectingStream<Bytes, Bytes> {
    let connections = Readable<any PolledDuplexStream<Bytes, Bytes>> {
      while true {
        guard let (number, wires) = try await next(stage, heard) else { continue }
        stage.begin("server \(number)") {
          let (near, far) = wires
          do {
            try await far.write(Bytes("welcome\n"))
            // The beginning of a line is none.
            var text = ""
            while let chunk = try await far.read() {
              text += chunk.string
              let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
              for line in lines.dropLast() { heard.note(line) }
              text = lines.last.map { String($0) } ?? ""
            }
            try await far.close()
          } catch {
            stage.outcome("returning server: \(type(of: error))")
            far.abort(error)
          }
          _ = near
        }
        do { if handover > .zero { try await stage.loop.sleep(for: handover) } } catch {
          wires.near.abort(error)
          throw error
        }
        return wires.near
      }
    }
    return ReconnectingStream(over: connections, resumingAt: .behind(UInt8(ascii: "\n")), on: stage.loop)
  }

  private func sockets(_ stage: Stage, _ heard: Heard) -> ReconnectingStream<Message, Message> {
    var reconnect = ReconnectOptions()
    reconnect.jitter = { 0.5 }
    let connections = WebSocket.connections(to: "ws://test/", headers: [:], reconnect: reconnect, on: stage.loop) { _ in
      guard let (number, wires) = try await next(stage, heard) else { throw WebSocketConnectError.endedEarly }
      stage.begin("server \(number)") {
        let socket = try await WebSocket.accept(over: wires.far)
        do {
          try await socket.send("welcome")
          for try await message in socket { heard.note(message.text) }
          try await socket.close()
        } catch {
          stage.outcome("returning server: \(type(of: error))")
          socket.abort(error)
        }
      }
      let socket = try await WebSocket.connect("ws://test/", over: wires.near)
      if handover > .zero { try await stage.loop.sleep(for: handover) }
      return socket
    }
    return WebSocket.stream(over: connections, on: stage.loop)
  }
}
