import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import Synchronization

/// What goes through a chain: what was sent and came, and how everything ended.
final class ChainRecord: Sendable {
  struct SourceFailure: Error {}
  struct Refusal: Error {}

  fileprivate struct State {
    var produced = 0
    var elements = 0
    var received = 0
    /// Bytes of the element that was refused.
    var refused: Int?
    var jointFailures: [Int: String] = [:]
    var end: End?
  }
  fileprivate enum End {
    case clean
    case failed(String)
  }

  private let plan: Chain
  private let stage: Stage
  /// Bytes that may be under way.
  private let capacity: Int
  private let state = Mutex(State())

  init(_ plan: Chain, _ stage: Stage) {
    self.plan = plan
    self.stage = stage
    // Each hop holds an element above its mark, and each joint hands some over.
    capacity =
      plan.hops.reduce(0) { $0 + $1.capacity(largestElement: plan.load.largestElement) }
      + 8 * (plan.hops.count + 1) * plan.load.largestElement
  }

  /// The byte that stands there in what is sent.
  private static func byte(at position: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: position &* 131 &+ (position >> 8) &* 17)
  }

  // MARK: what is sent, what comes

  func nextElement() throws -> Bytes? {
    let size = stage.random(in: 1...plan.load.largestElement)
    return try state.withLock { state in
      for case .sourceFails(let count) in plan.faults where state.elements >= count { throw SourceFailure() }
      for case .sourceFailsStalled(let count) in plan.faults where state.elements >= count { throw SourceFailure() }
      if state.elements >= plan.load.elements { return nil }
      state.elements += 1
      if state.produced - state.received > capacity, !stage.isViolated {
        stage.violate("more is held than the marks allow: \(state.produced - state.received) of \(capacity) bytes")
      }
      defer { state.produced += size }
      return Bytes((0..<size).map { Self.byte(at: state.produced + $0) })
    }
  }

  func refuse(_ element: Bytes) -> Refusal {
    state.withLock { $0.refused = element.count }
    return Refusal()
  }

  func receive(_ chunk: Bytes) {
    stage.note("read \(chunk.count)")
    state.withLock { state in
      for (index, byte) in chunk.enumerated() where byte != Self.byte(at: state.received + index) {
        stage.violate("another byte than was sent: at \(state.received + index)")
        break
      }
      state.received += chunk.count
      if state.received > state.produced { stage.violate("more came than was sent") }
      if state.end != nil { stage.violate("something came behind the end") }
    }
  }

  func didEnd(_ error: (any Error)?) {
    stage.note(error == nil ? "end" : "failure \(error.map { "\(type(of: $0))" } ?? "")")
    stage.outcome(error.map { "the reader's end: \(type(of: $0))" } ?? "the reader's end: clean")
    state.withLock { $0.end = error.map { .failed("\($0)") } ?? .clean }
  }

  /// A stream that has ended stays so, and one that has failed fails in the same way.
  func expectSameEnd(of stream: any DuplexStream<Bytes, Bytes>) async {
    let again: End
    do {
      if let chunk = try await stream.read() { return receive(chunk) }
      again = .clean
    } catch {
      again = .failed("\(error)")
    }
    let first = state.withLock { $0.end }
    switch (first, again) {
    case (.clean?, .clean): break
    case (.failed(let first)?, .failed(let second)) where first == second: break
    // A reader that has cancelled its own stream finds the end there.
    case (.failed?, .clean) where plan.hasReaderLeaving: break
    default: stage.violate("another end than the first: \(String(describing: first)), then \(again)")
    }
  }

  func failed(joint: Int, _ error: any Error) {
    stage.note("joint \(joint) failed: \(type(of: error))")
    stage.outcome("a joint failed: \(type(of: error))")
    state.withLock { $0.jointFailures[joint] = "\(error)" }
  }

  // MARK: the rules

  func judge() {
    if stage.isViolated { return }
    state.withLock { state in
      for broken in brokenPromises(state) { stage.violate(broken) }
    }
  }

  private func brokenPromises(_ state: State) -> [String] {
    var broken: [String] = []
    var failure: String?
    for case .sourceFails in plan.faults { failure = "\(SourceFailure())" }
    if state.refused != nil { failure = "\(Refusal())" }
    let others = plan.faults.contains { fault in
      switch fault {
      case .sourceFails, .sinkFails: false
      case .wire(let fault): plan.hops[fault.connection].wire != nil && !fault.isHarmless
      case .cancel, .readerLeaves, .garbage, .sourceFailsStalled: true
      }
    }
    if others { return [] }
    let sent = state.produced - (state.refused ?? 0)
    if state.received != sent { broken.append("\(state.received) of \(sent) bytes arrived") }
    if let failure {
      if case .clean = state.end { broken.append("the reader was told of a clean end, though the source had failed") }
      if state.jointFailures[0] == nil { broken.append("the sender was not told that its source failed") }
      if let told = state.jointFailures[0], told != failure {
        broken.append("the sender was told of another failure: \(told)")
      }
    } else {
      if case .failed(let error) = state.end { broken.append("the reader was told of a failure: \(error)") }
      for (joint, error) in state.jointFailures.sorted(by: { $0.key < $1.key }) {
        broken.append("joint \(joint) failed: \(error)")
      }
    }
    return broken
  }
}

extension Chain {
  fileprivate var hasReaderLeaving: Bool { faults.contains { if case .readerLeaves = $0 { true } else { false } } }
}
