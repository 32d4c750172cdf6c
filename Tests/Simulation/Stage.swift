import Sluice
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import SluiceTesting
import Synchronization

/// Where a world lives: a loop, and connections that can be disturbed. It keeps what happens, and what went against the rules.
final class Stage: Sendable {
  let loop: SimulatedLoop
  let identities: Identities
  /// How long a world may take. The longest times that count are `stallTimeout` and `halfCloseTimeout`, 30 seconds each, for each connection.
  static let longestLife = Duration.seconds(1200)
  /// In which all ends of what a world has left, by the times that have names.
  private static let restingTime = Duration.seconds(400)

  private struct State {
    var random: SeededGenerator
    var violations: [String] = []
    var outcomes: Set<String> = []
    var open: Set<String> = []
    var trace: UInt64 = 0xcbf2_9ce4_8422_2325
    var streams: [WeakStream] = []
  }
  private struct WeakStream {
    weak var stream: SimulatedStream?
  }
  private let state: Mutex<State>

  /// Whether each event is printed as it happens.
  static let printsEvents = CommandLine.arguments.contains("--seed") || CommandLine.arguments.contains("--plan")

  private init(_ loop: SimulatedLoop, _ identities: Identities, seed: UInt64) {
    self.loop = loop
    self.identities = identities
    state = Mutex(State(random: SeededGenerator(seed: ~seed)))
  }

  // MARK: a run

  struct Result: Sendable {
    var violations: [String]
    /// A hash of what happened, and when.
    var trace: UInt64
    var virtualTime: Duration
    var outcomes: Set<String>
  }

  /// Runs a world on virtual time, and says what went against the rules. Those of all worlds:
  ///
  /// - All that was begun ends by itself, within the times that have names.
  /// - When all has ended, no timer is left, and no connection is held by anything.
  static func run(_ plan: Plan, _ identities: Identities) async throws -> Result {
    let loop = SimulatedLoop(permutingTasksBy: plan.seed)
    let stage = Stage(loop, identities, seed: plan.seed)
    do {
      try await loop.simulate { try await stage.play(plan.world) }
    } catch is SimulatedLoop.Stuck {
      stage.violate("stuck: \(stage.open) wait for what nobody will do, or go round without time passing")
    } catch {
      stage.violate("the world failed: \(error)")
    }
    let held = stage.state.withLock { state in
      state.streams.indices.filter { state.streams[$0].stream != nil }.map {
        "\($0 / 2) \($0 % 2 == 0 ? "near" : "far")"
      }
    }
    if !held.isEmpty { stage.violate("ends of connections are still held: \(held.joined(separator: ", "))") }
    return stage.state.withLock { state in
      Result(
        violations: state.violations, trace: state.trace, virtualTime: loop.now,
        outcomes: state.outcomes)
    }
  }

  private func play(_ world: any World) async throws {
    let life = Task(executorPreference: loop) { try await world.live(on: self) }
    let watch = loop.schedule(after: Self.longestLife) {
      self.violate("not ended after \(Self.longestLife): \(self.open)")
      life.cancel()
      for stream in self.state.withLock({ $0.streams.compactMap(\.stream) }) { stream.abort(StreamError.aborted) }
    }
    defer { loop.cancelTimer(watch) }
    try await life.value
    loop.cancelTimer(watch)
    try await loop.sleep(for: Self.restingTime)
    if loop.openTimers > 0 { violate("\(loop.openTimers) timers are left") }
  }

  // MARK: what it has

  /// Two ends of a connection.
  func connection(_ wire: Wire) -> (near: SimulatedStream, far: SimulatedStream) {
    var network = SimulatedNetwork(loop: loop)
    network.pieceSize = wire.pieceSize
    network.delay = wire.delay
    network.window = wire.window
    let (near, far) = network.connection()
    state.withLock { $0.streams += [WeakStream(stream: near), WeakStream(stream: far)] }
    return (near, far)
  }

  /// By chance, the same for the same seed.
  func random(in range: ClosedRange<Int>) -> Int { state.withLock { Int.random(in: range, using: &$0.random) } }

  /// Runs a part of the world, which must end by itself.
  @discardableResult
  func begin(_ name: String, _ body: @escaping @Sendable () async throws -> Void) -> Task<Void, Never> {
    state.withLock { _ = $0.open.insert(name) }
    return Task(executorPreference: loop) {
      do { try await body() } catch { self.note("\(name): \(error)") }
      self.state.withLock { _ = $0.open.remove(name) }
    }
  }

  /// Reads as with a time limit that passes now and then: a read that is cancelled leaves what comes to the next.
  func readImpatiently<Element: Sendable>(_ read: @escaping @Sendable () async throws -> Element?) async throws
    -> Element?
  {
    while true {
      let reading = Task(executorPreference: loop) { try await read() }
      if random(in: 0...2) == 0 { at(.milliseconds(random(in: 0...30))) { reading.cancel() } }
      do {
        return try await withTaskCancellationHandler {
          try await reading.value
        } onCancel: {
          reading.cancel()
        }
      } catch {
        // A stream that was given up by somebody who was cancelled fails so too, and goes on doing it.
        if error is CancellationError, reading.isCancelled, !Task.isCancelled { continue }
        throw error
      }
    }
  }

  private var open: String { state.withLock { $0.open.sorted().joined(separator: ", ") } }

  func at(_ time: Duration, _ work: @escaping @Sendable () -> Void) { _ = loop.schedule(after: time, work) }

  // MARK: what happens

  func violate(_ what: String) { state.withLock { $0.violations.append(what) } }

  func outcome(_ what: String) { state.withLock { _ = $0.outcomes.insert(what) } }

  var isViolated: Bool { state.withLock { !$0.violations.isEmpty } }

  /// FNV-1a over what happens.
  func note(_ what: String) {
    let time = loop.now
    if Self.printsEvents { print("    \(time): \(what)") }
    state.withLock { state in
      for byte in "\(what) \(time)".utf8 { state.trace = (state.trace ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
  }
}

/// A system of connections with a load and faults, made by chance.
protocol World: Codable, Sendable, CustomStringConvertible {
  init(_ random: inout SeededGenerator)
  /// Worlds with something less, for finding out what a failure needs.
  var simpler: [Self] { get }
  /// The names of the faults in it.
  var faultNames: [String] { get }
  func live(on stage: Stage) async throws
}

/// How a simulated network carries bytes.
struct Wire: Codable, Hashable, Sendable {
  var pieceSize: Int
  var delay: Duration
  var window: Int

  static let plain = Wire(pieceSize: 65_536, delay: .zero, window: 262_144)

  init(pieceSize: Int, delay: Duration, window: Int) {
    self.pieceSize = pieceSize
    self.delay = delay
    self.window = window
  }

  init(_ random: inout SeededGenerator) {
    pieceSize = random.pick([1, 7, 1460, 65_536])
    delay = .milliseconds(random.pick([0, 1, 50]))
    window = random.pick([1, 500, 16_384, 262_144])
    // A piece of a byte each, and a byte under way at a time, is a day of work.
    if pieceSize < 1000 || window < 1000 { window = max(window, 4096) }
  }
}

/// What may happen to a connection.
struct WireFault: Codable, Hashable, Sendable {
  enum Kind: String, Codable, Sendable, CaseIterable {
    /// One end takes nothing for a time.
    case stall
    case reset
    /// What carries the connection ends without it: FIN, without a Close or close_notify before it.
    case cut
    /// The same at any byte: what the system had not taken is lost.
    case truncate
    /// Sending fails, and the reading hears of it much later.
    case sendFails
    /// Both ends are woken though nothing has come.
    case wakes
  }
  var kind: Kind
  /// Which connection of the world's.
  var connection: Int
  var time: Duration
  /// Of a stall.
  var length: Duration
  /// Whether it happens to the far end, which in most worlds writes the answers.
  var isFar: Bool

  init(_ random: inout SeededGenerator, connections: Int) {
    kind = random.pick(Kind.allCases)
    connection = random.number(0..<max(connections, 1))
    // A handshake takes no time, or a few times 50 ms; whoever has to answer a Close, 10 seconds.
    time = .milliseconds(random.number(0..<random.pick([100, 1500, 1500, 1500, 6000])))
    // Longer than `closeTimeout`, and longer than `stallTimeout`.
    length = .seconds(random.number(random.pick([1..<21, 1..<21, 31..<61])))
    isFar = random.chance(3)
  }

  func apply(to wire: (near: SimulatedStream, far: SimulatedStream)?, on stage: Stage) {
    guard let wire else { return }
    let side = isFar ? wire.far : wire.near
    stage.at(time) {
      switch kind {
      case .stall:
        side.stall(true)
        stage.at(length) { side.stall(false) }
      case .reset: side.abort(ConnectionReset())
      case .cut: side.closeWhenFlushed { _ in }
      case .truncate: side.cut()
      case .sendFails: side.failSends(ConnectionReset())
      case .wakes:
        for turn in 0..<20 {
          stage.at(.milliseconds(turn)) {
            wire.near.wakeForNothing()
            wire.far.wakeForNothing()
          }
        }
      }
    }
  }

  /// Whether it may end something. A connection that is being closed is given up after 10 seconds of silence (`closeTimeout`).
  var isHarmless: Bool {
    switch kind {
    case .wakes: true
    case .stall: length <= .seconds(8)
    case .reset, .cut, .truncate, .sendFails: false
    }
  }
}

extension SeededGenerator {
  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[Int.random(in: 0..<elements.count, using: &self)]
  }
  mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &self) }
  mutating func chance(_ oneIn: Int) -> Bool { number(0..<oneIn) == 0 }
}

extension Duration {
  static func milliseconds(_ range: ClosedRange<Int>, _ random: inout SeededGenerator) -> Duration {
    .milliseconds(Int.random(in: range, using: &random))
  }
}

struct Identities: Sendable {
  let client: TLSClientContext
  let server: TLSServerContext

  static func load() async throws -> Identities {
    let certificates = try await Certificates.load()
    return Identities(client: try certificates.client(), server: try certificates.server())
  }
}
