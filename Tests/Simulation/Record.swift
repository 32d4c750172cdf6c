import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import Synchronization

/// What happens in a world: what was sent and came, how everything ended, and what broke a rule.
final class Record: Sendable {
  struct SourceFailure: Error {}

  fileprivate struct State {
    var random: SeededGenerator
    var produced = 0
    var elements = 0
    var received = 0
    var isOver = false
    var open: Set<String> = []
    var violations: [String] = []
    var outcomes: Set<String> = []
    var trace: UInt64 = 0xcbf2_9ce4_8422_2325
    var jointFailures: [Int: String] = [:]
    var end: End?
  }
  fileprivate enum End {
    case clean
    case failed(String)
  }

  /// Whether each event is printed as it happens.
  static let printsEvents = CommandLine.arguments.contains("--seed")

  private let plan: Plan
  private let state: Mutex<State>

  init(_ plan: Plan) {
    self.plan = plan
    state = Mutex(State(random: SeededGenerator(seed: ~plan.seed)))
  }

  /// The byte that stands there in what is sent.
  private static func byte(at position: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: position &* 131 &+ (position >> 8) &* 17)
  }

  // MARK: what is sent, what comes

  func nextElement() throws -> Bytes? {
    try state.withLock { state in
      for case .sourceFails(let count) in plan.faults where state.elements >= count { throw SourceFailure() }
      if state.elements >= plan.load.elements { return nil }
      state.elements += 1
      let count = Int.random(in: 1...plan.load.largestElement, using: &state.random)
      defer { state.produced += count }
      return Bytes((0..<count).map { Self.byte(at: state.produced + $0) })
    }
  }

  func receive(_ chunk: Bytes, at time: Duration) {
    state.withLock { state in
      for (index, byte) in chunk.enumerated() where byte != Self.byte(at: state.received + index) {
        state.violations.append("byte \(state.received + index) is another than was sent")
        break
      }
      state.received += chunk.count
      if state.received > state.produced { state.violations.append("more came than was sent") }
      state.note(in: "read \(chunk.count)", at: time)
    }
  }

  func didEnd(_ error: (any Error)?, at time: Duration) {
    state.withLock { state in
      state.end = error.map { .failed("\($0)") } ?? .clean
      state.outcomes.insert(error.map { "the reader's end: \(type(of: $0))" } ?? "the reader's end: clean")
      state.note(in: error == nil ? "end" : "failure", at: time)
    }
  }

  func failed(joint: Int, _ error: any Error, at time: Duration) {
    state.withLock { state in
      state.jointFailures[joint] = "\(error)"
      state.outcomes.insert("a joint failed: \(type(of: error))")
      state.note(in: "joint \(joint) failed: \(error)", at: time)
    }
  }

  func outcome(_ what: String, at time: Duration) {
    state.withLock { $0.note(in: what, at: time) }
  }

  func begin(_ task: String) { state.withLock { _ = $0.open.insert(task) } }
  func end(_ task: String) { state.withLock { _ = $0.open.remove(task) } }
  var open: [String] { state.withLock { $0.open.sorted() } }

  func note(_ violation: String) { state.withLock { $0.violations.append(violation) } }

  // MARK: the rules

  func result(at time: Duration) -> World.Result {
    state.withLock { state in
      var violations = state.violations
      if violations.isEmpty { violations = brokenPromises(state) }
      return World.Result(
        violations: violations, trace: state.trace, virtualTime: time, received: state.received,
        outcomes: state.outcomes)
    }
  }

  private func brokenPromises(_ state: State) -> [String] {
    var broken: [String] = []
    let sourceFails = plan.faults.contains { if case .sourceFails = $0 { true } else { false } }
    let others = plan.faults.contains { fault in
      switch fault {
      case .sourceFails: false
      // A connection that is being closed is given up after 10 seconds of silence (`closeTimeout`).
      case .stall(let hop, _, let time): plan.hops[hop].hasWire && time > .seconds(9)
      case .reset(let hop, _), .cut(let hop, _): plan.hops[hop].hasWire
      case .cancel, .readerLeaves: true
      }
    }
    if others { return [] }
    if state.received != state.produced { broken.append("\(state.received) of \(state.produced) bytes arrived") }
    if sourceFails {
      if case .clean = state.end { broken.append("the reader was told of a clean end, though the source had failed") }
      if state.jointFailures[0] == nil { broken.append("the sender was not told that its source failed") }
    } else {
      if case .failed(let error) = state.end { broken.append("the reader was told of a failure: \(error)") }
      for (joint, error) in state.jointFailures.sorted(by: { $0.key < $1.key }) {
        broken.append("joint \(joint) failed: \(error)")
      }
    }
    return broken
  }
}

extension Record.State {
  /// FNV-1a over what happens.
  fileprivate mutating func note(in what: String, at time: Duration) {
    if Record.printsEvents { print("    \(time): \(what)") }
    for byte in "\(what) \(time)".utf8 { trace = (trace ^ UInt64(byte)) &* 0x100_0000_01b3 }
  }
}
