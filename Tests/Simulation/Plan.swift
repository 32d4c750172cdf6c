import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting

/// What one run of the simulation is made of: connections one behind the other, what is sent through them, and what goes wrong meanwhile.
struct Plan: Sendable {
  var seed: UInt64
  var hops: [Hop]
  /// What connects a hop with the next; one less than hops.
  var joints: [Joint]
  var load: Load
  var faults: [Fault]

  /// A connection: what is written at its near end is read at its far one.
  enum Hop: Sendable {
    case memory(highWatermark: Int)
    case memoryOnLoop(highWatermark: Int)
    case tcp(Wire)
    case tls(Wire)
    case webSocket(Wire, isCompressed: Bool)
    case lengthPrefixed(Wire)
    case chunks(Wire, size: Int)
  }

  /// How a simulated network carries bytes.
  struct Wire: Sendable {
    var pieceSize: Int
    var delay: Duration
    var window: Int
  }

  enum Joint: CaseIterable, Sendable {
    case pipe, bridge
  }

  struct Load: Sendable {
    var elements: Int
    var largestElement: Int
    /// How long the last reader thinks about each chunk.
    var readerDelay: Duration
  }

  enum Fault: Sendable {
    /// One end of a connection takes nothing for a time.
    case stall(hop: Int, at: Duration, time: Duration)
    /// A connection is reset.
    case reset(hop: Int, at: Duration)
    /// What carries a connection ends without it.
    case cut(hop: Int, at: Duration)
    /// The source fails behind so many elements.
    case sourceFails(after: Int)
    /// The task of a joint is cancelled; 0 is the one that sends.
    case cancel(joint: Int, at: Duration)
    /// The last reader has had enough.
    case readerLeaves(at: Duration)
  }
}

// MARK: by chance

extension Plan {
  init(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    self.seed = seed
    hops = (0..<Int.random(in: 1...3, using: &random)).map { _ in Hop(&random) }
    joints = hops.dropFirst().map { _ in Joint.allCases.randomElement(using: &random) ?? .pipe }
    let size = [1, 100, 4000, 40_000].randomElement(using: &random) ?? 1
    load = Load(
      elements: [0, 1, 20, size < 4000 ? 200 : 20].randomElement(using: &random) ?? 1, largestElement: size,
      readerDelay: .milliseconds([0, 0, 1, 20].randomElement(using: &random) ?? 0))
    // A thought for each byte would take a day, and so would a million bytes one by one.
    if hops.contains(where: { $0.pieceSize < 1000 }) {
      load.readerDelay = .zero
      load.largestElement = min(load.largestElement, 2000)
    }
    faults = []
    for _ in 0..<([0, 1, 1, 2].randomElement(using: &random) ?? 0) { faults.append(Fault(&random, in: self)) }
  }
}

extension Plan.Hop {
  init(_ random: inout SeededGenerator) {
    let mark = Int.random(in: 1...20, using: &random)
    let wire = Plan.Wire(&random)
    switch Int.random(in: 0..<7, using: &random) {
    case 0: self = .memory(highWatermark: mark)
    case 1: self = .memoryOnLoop(highWatermark: mark)
    case 2: self = .tcp(wire)
    case 3: self = .tls(wire)
    case 4: self = .lengthPrefixed(wire)
    case 5: self = .chunks(wire, size: Int.random(in: 1...5000, using: &random))
    default: self = .webSocket(wire, isCompressed: Bool.random(using: &random))
    }
  }

  /// What carries it, and can be stalled, reset and cut.
  private var wire: Plan.Wire? {
    switch self {
    case .memory, .memoryOnLoop: nil
    case .tcp(let wire), .tls(let wire), .webSocket(let wire, _), .lengthPrefixed(let wire), .chunks(let wire, _): wire
    }
  }

  var hasWire: Bool { wire != nil }
  /// Bytes of what arrives at once, at the most.
  fileprivate var pieceSize: Int {
    if case .chunks(_, let size) = self { return min(size, wire?.pieceSize ?? size) }
    return wire?.pieceSize ?? .max
  }
}

extension Plan.Wire {
  init(_ random: inout SeededGenerator) {
    pieceSize = [1, 7, 1460, 65_536].randomElement(using: &random) ?? 1
    delay = .milliseconds([0, 1, 50].randomElement(using: &random) ?? 0)
    window = [1, 500, 16_384, 262_144].randomElement(using: &random) ?? 1
    // A piece of a byte each, and a byte under way at a time, is a day of work.
    if pieceSize < 1000 || window < 1000 { window = max(window, 4096) }
  }
}

extension Plan.Fault {
  init(_ random: inout SeededGenerator, in plan: Plan) {
    let hop = Int.random(in: 0..<plan.hops.count, using: &random)
    let time = Duration.milliseconds(Int.random(in: 0...1500, using: &random))
    switch Int.random(in: 0..<6, using: &random) {
    case 0: self = .stall(hop: hop, at: time, time: .seconds(Int.random(in: 1...20, using: &random)))
    case 1: self = .reset(hop: hop, at: time)
    case 2: self = .cut(hop: hop, at: time)
    case 3: self = .sourceFails(after: Int.random(in: 0...plan.load.elements, using: &random))
    case 4: self = .cancel(joint: Int.random(in: 0...plan.joints.count, using: &random), at: time)
    default: self = .readerLeaves(at: time)
    }
  }
}

// MARK: smaller

extension Plan {
  /// Plans with something less, for finding out what a failure needs.
  var simpler: [Plan] {
    var plans: [Plan] = []
    func add(_ change: (inout Plan) -> Void) {
      var plan = self
      change(&plan)
      plans.append(plan)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    for index in hops.indices where hops.count > 1 && !faults.contains(where: { $0.concerns(hop: index, of: self) }) {
      add { plan in
        plan.hops.remove(at: index)
        plan.joints.remove(at: min(index, joints.count - 1))
        plan.faults = plan.faults.map { $0.withoutHop(index) }
      }
    }
    if load.elements > 1 { add { $0.load.elements /= 2 } }
    if load.largestElement > 1 { add { $0.load.largestElement = max($0.load.largestElement / 4, 1) } }
    if load.readerDelay > .zero { add { $0.load.readerDelay = .zero } }
    for index in joints.indices where joints[index] == .bridge { add { $0.joints[index] = .pipe } }
    for index in hops.indices { if let hop = hops[index].onPlainWire { add { $0.hops[index] = hop } } }
    return plans
  }
}

extension Plan.Hop {
  /// The same on a wire that does nothing to what it carries; nil if it is.
  fileprivate var onPlainWire: Plan.Hop? {
    let plain = Plan.Wire(pieceSize: 65_536, delay: .zero, window: 262_144)
    func isPlain(_ wire: Plan.Wire) -> Bool {
      wire.pieceSize == plain.pieceSize && wire.delay == .zero && wire.window == plain.window
    }
    switch self {
    case .memory, .memoryOnLoop: return nil
    case .tcp(let wire): return isPlain(wire) ? nil : .tcp(plain)
    case .tls(let wire): return isPlain(wire) ? nil : .tls(plain)
    case .webSocket(let wire, let isCompressed):
      return isPlain(wire) ? nil : .webSocket(plain, isCompressed: isCompressed)
    case .lengthPrefixed(let wire): return isPlain(wire) ? nil : .lengthPrefixed(plain)
    case .chunks(let wire, let size): return isPlain(wire) ? nil : .chunks(plain, size: size)
    }
  }
}

extension Plan.Fault {
  fileprivate func concerns(hop index: Int, of plan: Plan) -> Bool {
    switch self {
    case .stall(let hop, _, _), .reset(let hop, _), .cut(let hop, _): hop == index
    // A joint is in front of its hop.
    case .cancel(let joint, _): joint == index || joint == index + 1
    case .sourceFails, .readerLeaves: false
    }
  }

  fileprivate func withoutHop(_ index: Int) -> Plan.Fault {
    func moved(_ other: Int) -> Int { other > index ? other - 1 : other }
    return switch self {
    case .stall(let hop, let at, let time): .stall(hop: moved(hop), at: at, time: time)
    case .reset(let hop, let at): .reset(hop: moved(hop), at: at)
    case .cut(let hop, let at): .cut(hop: moved(hop), at: at)
    case .cancel(let joint, let at): .cancel(joint: moved(joint), at: at)
    case .sourceFails, .readerLeaves: self
    }
  }
}

extension Plan: CustomStringConvertible {
  var description: String {
    var lines = [
      "seed \(seed): \(load.elements) elements of up to \(load.largestElement) bytes, reader's delay \(load.readerDelay)"
    ]
    for (index, hop) in hops.enumerated() {
      if index > 0 { lines.append("    \(joints[index - 1])") }
      lines.append("  \(hop)")
    }
    for fault in faults { lines.append("  ! \(fault)") }
    return lines.joined(separator: "\n")
  }
}
