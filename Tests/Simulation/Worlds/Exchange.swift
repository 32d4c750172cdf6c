import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import Synchronization

/// A client and a server with a bridge between them: what the client says is answered.
///
/// - What comes back is a beginning of what was sent.
/// - Where neither side has ended in both directions before the answer was given, and nothing is cut, all of it comes back, under every policy but
///   `closeBoth`.
struct Exchange: World {
  var client: Chain.Hop
  var server: Chain.Hop
  var policy: String
  var elements: Int
  var largestElement: Int
  /// The client closes when it has all of the answer, and not before.
  var closesBehindAnswer: Bool
  /// The server answers when the client has ended.
  var answersAtEnd: Bool
  /// How long the server thinks about each chunk.
  var thought: Duration
  var faults: [WireFault]
  /// What the bridge writes to on the server's side.
  var sink: Sink

  enum Sink: Codable, Sendable {
    case connection
    /// A program's output, whose reader goes behind so many elements.
    /// - Parameter clientStalls: Whether the client takes nothing of the answers for a time.
    case output(readerLeavesAfter: Int, clientStalls: Bool)
    /// It fails behind so many elements, and says nothing else.
    case failing(after: Int)
  }

  init(_ random: inout SeededGenerator) {
    client = Self.twoWay(&random)
    server = Self.twoWay(&random)
    policy = random.pick(BridgeEndPolicy.allCases).rawValue
    elements = random.pick([0, 1, 5, 50])
    largestElement = random.pick([1, 100, 2000])
    answersAtEnd = random.chance(3)
    closesBehindAnswer = !answersAtEnd && random.chance(2)
    thought = .milliseconds(random.pick([0, 0, 1, 30]))
    if [client, server].contains(where: { $0.wire.map { $0.pieceSize < 1000 } ?? false }) { thought = .zero }
    faults = []
    for _ in 0..<random.pick([0, 0, 1, 1, 2]) { faults.append(WireFault(&random, connections: 2)) }
    switch random.number(0..<8) {
    case 0: sink = .output(readerLeavesAfter: random.number(0..<elements + 1), clientStalls: random.chance(2))
    case 1: sink = .failing(after: random.number(0..<elements + 1))
    default: sink = .connection
    }
  }

  private static func twoWay(_ random: inout SeededGenerator) -> Chain.Hop {
    while true {
      let hop = Chain.Hop(&random)
      if hop.isTwoWay { return hop }
    }
  }

  var simpler: [Exchange] {
    var worlds: [Exchange] = []
    func add(_ change: (inout Exchange) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    if elements > 1 { add { $0.elements /= 2 } }
    if largestElement > 1 { add { $0.largestElement = max(largestElement / 4, 1) } }
    if thought > .zero { add { $0.thought = .zero } }
    if case .connection = sink {} else { add { $0.sink = .connection } }
    if client.wire.map({ $0 != .plain }) ?? false { add { $0.client = client.on(.plain) } }
    if server.wire.map({ $0 != .plain }) ?? false { add { $0.server = server.on(.plain) } }
    return worlds
  }

  var faultNames: [String] { faults.map(\.kind.rawValue) }

  var description: String {
    "an exchange of \(elements) × \(largestElement) bytes\n  \(client)\n    bridge \(policy)\n  \(server)"
      + "\n  \(answersAtEnd ? "answers at the end" : "echoes"), \(closesBehindAnswer ? "closes behind it" : "closes first"), thinks \(thought), to \(sink)"
      + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  func live(on stage: Stage) async throws {
    let first = try await client.open(on: stage)
    let second = try await server.open(on: stage)
    let received = Mutex<[UInt8]>([])
    let isWhole = Flag()
    let sent = (0..<elements).map { index -> [UInt8] in
      let size = stage.random(in: 1...largestElement)
      return (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index &* 13) }
    }
    let all = Array(sent.joined())
    let answering = stage.begin("server") { try await answer(on: second.far, stage) }
    let bridging = stage.begin("bridge") {
      do {
        try await connect(first.far, second.near, stage)
        stage.note("bridge ended")
        stage.outcome("bridge: ended")
      } catch {
        if case .output = sink, faults.allSatisfy(\.isHarmless) { lostReader(error, stage) }
        stage.note("bridge failed: \(type(of: error))")
        stage.outcome("bridge: \(type(of: error))")
      }
      // What failed may say why for a time, and what came before may be read for one (`lastWordsTimeout`, `stallTimeout`).
      for (wire, hop) in [(first.wire?.far, client), (second.wire?.near, server)] where hop.tellsOfFailure {
        if let failed = wire?.sendFailureTime, stage.loop.now - failed > .seconds(100) {
          stage.violate("a bridge went on for \(stage.loop.now - failed) when writing had failed")
        }
      }
      for stream in [first.far, second.near] {
        stream.cancel(nil)
        try? await stream.close()
      }
    }
    let reading = stage.begin("client's reader") {
      defer { isWhole.raise() }
      do {
        while let chunk = try await first.near.read() {
          stage.note("read \(chunk.count)")
          let count = received.withLock { bytes in
            bytes += chunk
            return bytes.count
          }
          if count >= all.count { isWhole.raise() }
        }
        stage.note("end")
      } catch {
        stage.note("client's reader failed: \(type(of: error))")
      }
    }
    let writing = stage.begin("client's writer") {
      do {
        for element in sent { try await first.near.write(Bytes(element)) }
        while closesBehindAnswer && !isWhole.isUp && !all.isEmpty { try await stage.loop.sleep(for: .milliseconds(10)) }
        try await first.near.close()
      } catch {
        stage.note("client's writer failed: \(type(of: error))")
        first.near.abort(error)
      }
    }
    if case .output(_, clientStalls: true) = sink {
      first.wire?.far.stall(true)
      stage.at(.seconds(20)) { first.wire?.far.stall(false) }
    }
    if let fault = faults.first { fault.apply(to: fault.connection == 0 ? first.wire : second.wire, on: stage) }
    if let fault = faults.dropFirst().first {
      fault.apply(to: fault.connection == 0 ? first.wire : second.wire, on: stage)
    }
    for task in [writing, answering, bridging, reading] { await task.value }
    for stream in [first.near, first.far, second.near, second.far] { stream.cancel(nil) }
    let whole = received.withLock { $0 }
    guard all.starts(with: whole) else { return stage.violate("the answer is another than what was sent") }
    if isPromised && whole.count < all.count {
      stage.violate("the answer is not whole: \(whole.count) of \(all.count) bytes")
    }
  }

  /// That nobody reads is no failure. Under `defer` the other direction goes on, and may then be silent for too long.
  private func lostReader(_ error: any Error, _ stage: Stage) {
    if policy != BridgeEndPolicy.defer.rawValue { stage.violate("a bridge failed by a reader that has gone: \(error)") }
  }

  private var isPromised: Bool {
    guard case .connection = sink else { return false }
    if faults.contains(where: { !$0.isHarmless }) { return false }
    if closesBehindAnswer { return true }
    if policy == BridgeEndPolicy.closeBoth.rawValue || client.endsAsOne { return false }
    return !(answersAtEnd && server.endsAsOne)
  }

  private func connect(
    _ a: some DuplexStream<Bytes, Bytes>, _ b: some DuplexStream<Bytes, Bytes>, _ stage: Stage
  ) async throws {
    let options = BridgeOptions(onEnd: BridgeEndPolicy(rawValue: policy) ?? .afterAnswer)
    switch sink {
    case .connection: try await bridge(a, b, options: options)
    case .output(let count, _):
      try await bridge(
        a, JoinedStream(reading: b, writing: b.failing(after: count, StreamError.closed), endsWithReader: true),
        options: options)
    case .failing(let count):
      try await bridge(a, JoinedStream(reading: b, writing: b.failing(after: count, Broken())), options: options)
    }
  }

  fileprivate struct Broken: Error {}

  private func answer(on stream: any DuplexStream<Bytes, Bytes>, _ stage: Stage) async throws {
    do {
      var kept: [Bytes] = []
      while let chunk = try await stream.read() {
        if thought > .zero { try await stage.loop.sleep(for: thought) }
        if answersAtEnd { kept.append(chunk) } else { try await stream.write(chunk) }
      }
      for chunk in kept { try await stream.write(chunk) }
      try await stream.close()
    } catch {
      stage.note("server failed: \(type(of: error))")
      stream.abort(error)
    }
    stream.cancel(nil)
  }
}

extension WritableStream {
  /// Takes so many elements.
  fileprivate func failing(after count: Int, _ error: any Error) -> Writable<Input> {
    let left = Mutex(count)
    let take: @Sendable (Input) async throws -> Void = { element in
      let isOver = left.withLock { left in
        left -= 1
        return left < 0
      }
      if isOver { throw error }
      try await write(element)
    }
    return Writable(onClose: { try await close() }, onAbort: { abort($0) }, take)
  }
}

extension Chain.Hop {
  fileprivate var isTwoWay: Bool {
    switch self {
    case .events, .upload, .download, .hixie, .chunks: false
    default: true
    }
  }

  fileprivate var endsAsOne: Bool {
    switch self {
    case .webSocket, .framed, .hybi: true
    default: false
    }
  }
}
