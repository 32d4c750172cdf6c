import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting

/// Connections one behind the other, through which one stream of bytes goes; and what goes wrong meanwhile.
///
/// - What arrives is a beginning of what was sent.
/// - Without a fault that ends something, all of it arrives, nothing fails, and the end is a clean one.
/// - When only the source fails, all that it gave arrives, and what follows is told as a failure: nobody takes a part for the whole.
/// - When what stands before the first connection refuses an element, all before that one arrives, and the rest is as with a source that fails.
/// - What is under way is never more than the marks, the buffers and the elements of all hops together.
struct Chain: World {
  var hops: [Hop]
  /// What connects a hop with the next; one less than hops.
  var joints: [Joint]
  var load: Load
  var faults: [Fault]

  /// A connection: what is written at its near end is read at its far one.
  enum Hop: Codable, Sendable {
    case memory(highWatermark: Int)
    case memoryOnLoop(highWatermark: Int)
    case tcp(Wire)
    case tls(Wire)
    case tlsInTLS(Wire)
    case webSocket(Wire, isCompressed: Bool)
    /// Frames without a handshake.
    case framed(Wire)
    /// The drafts of 2011; a client of ours is one by its request's head.
    case hybi(Wire, version: Int)
    /// Those of 2010, in text.
    case hixie(Wire, hasClosingHandshake: Bool)
    case lengthPrefixed(Wire)
    case lines(Wire)
    case chunks(Wire, size: Int)
    /// A stream of the simple gear, brought to the loop.
    case adapted(Wire)
    /// The simple gear itself.
    case simple(Wire)
    /// An event per element, from a server to its client.
    case events(Wire, isCompressed: Bool)
    /// The body of a request to a server.
    case upload(Wire)
    /// The body of its response.
    case download(Wire)
  }

  enum Joint: Codable, Sendable {
    case pipe
    case bridge(String)
    /// A branch is piped, the other is read beside it.
    case tee(bufferedBytes: Int)
    /// Through streams whose type is not told, and a stage that waits.
    case slowStage
    /// The end comes later.
    case endingLater(Duration)
  }

  struct Load: Codable, Sendable {
    var elements: Int
    var largestElement: Int
    /// How long the last reader thinks about each chunk.
    var readerDelay: Duration
    /// Its reads are cancelled now and then.
    var cancelsReads = false
  }

  enum Fault: Codable, Sendable {
    case wire(WireFault)
    /// The source fails behind so many elements.
    case sourceFails(after: Int)
    /// The same while the first connection takes nothing, for a minute.
    case sourceFailsStalled(after: Int)
    /// What stands before the first connection refuses an element behind so many.
    case sinkFails(after: Int)
    /// Somebody between the ends of a connection in TLS sends what is no record.
    case garbage(hop: Int, at: Duration)
    /// The task of a joint is cancelled; 0 is the one that sends.
    case cancel(joint: Int, at: Duration)
    /// The last reader has had enough.
    case readerLeaves(at: Duration)
  }
}

// MARK: by chance

extension Chain {
  init(_ random: inout SeededGenerator) {
    hops = (0..<random.number(1..<4)).map { _ in Hop(&random) }
    joints = hops.dropFirst().map { Joint(&random, before: $0) }
    // A server that has all of a request's body ends what goes back to the client: what is not read by then is cut, as both directions are to end.
    for (index, hop) in hops.dropLast().enumerated() {
      if case .upload = hop, case .bridge(BridgeEndPolicy.closeBoth.rawValue) = joints[index] { joints[index] = .pipe }
    }
    let size = random.pick([1, 100, 4000, 40_000])
    load = Load(
      elements: random.pick([0, 1, 20, size < 4000 ? 200 : 20]), largestElement: size,
      readerDelay: .milliseconds(random.pick([0, 0, 1, 20])))
    // A thought for each byte would take a day, and so would a million bytes one by one.
    if hops.contains(where: { $0.pieceSize < 1000 }) {
      load.readerDelay = .zero
      load.largestElement = min(load.largestElement, 2000)
    }
    load.cancelsReads = random.chance(4)
    faults = []
    for _ in 0..<random.pick([0, 1, 1, 2]) { faults.append(Fault(&random, in: self)) }
  }

  var faultNames: [String] {
    faults.map { if case .wire(let fault) = $0 { fault.kind.rawValue } else { String("\($0)".prefix { $0 != "(" }) } }
  }
}

extension Chain.Hop {
  init(_ random: inout SeededGenerator) {
    let mark = random.number(1..<21)
    let wire = Wire(&random)
    switch random.number(0..<19) {
    case 0: self = .memory(highWatermark: mark)
    case 1: self = .memoryOnLoop(highWatermark: mark)
    case 2: self = .tcp(wire)
    case 3, 4: self = .tls(wire)
    case 5: self = .tlsInTLS(wire)
    case 6: self = .framed(wire)
    case 7: self = .hybi(wire, version: random.number(7..<9))
    case 8, 9: self = .hixie(wire, hasClosingHandshake: random.chance(2))
    case 10: self = .lengthPrefixed(wire)
    case 11: self = .lines(wire)
    case 12: self = .chunks(wire, size: random.number(random.pick([1..<31, 1..<5001])))
    case 13: self = .adapted(wire)
    case 14: self = .events(wire, isCompressed: random.chance(2))
    case 15: self = .upload(wire)
    case 16: self = .download(wire)
    case 17: self = .simple(wire)
    default: self = .webSocket(wire, isCompressed: random.chance(2))
    }
  }

  /// What carries it, and can be disturbed.
  var wire: Wire? {
    switch self {
    case .memory, .memoryOnLoop: nil
    case .tcp(let wire), .tls(let wire), .tlsInTLS(let wire), .webSocket(let wire, _), .framed(let wire),
      .hybi(let wire, _), .hixie(let wire, _), .lengthPrefixed(let wire), .lines(let wire), .chunks(let wire, _),
      .adapted(let wire), .simple(let wire), .events(let wire, _), .upload(let wire), .download(let wire):
      wire
    }
  }

  /// Whether its near end says by itself that it has failed: what has the simple gear only says so at the next element.
  var tellsOfFailure: Bool {
    switch self {
    case .memory, .memoryOnLoop, .simple, .adapted, .lines, .hixie, .upload, .download: false
    case .tcp, .tls, .tlsInTLS, .webSocket, .framed, .hybi, .lengthPrefixed, .chunks, .events: true
    }
  }

  fileprivate var isTLS: Bool {
    switch self {
    case .tls, .tlsInTLS: true
    default: false
    }
  }

  fileprivate var closesAsOne: Bool {
    switch self {
    case .webSocket, .framed, .hybi, .hixie: true
    default: false
    }
  }

  func on(_ wire: Wire) -> Chain.Hop {
    switch self {
    case .memory, .memoryOnLoop: self
    case .tcp: .tcp(wire)
    case .tls: .tls(wire)
    case .tlsInTLS: .tlsInTLS(wire)
    case .webSocket(_, let isCompressed): .webSocket(wire, isCompressed: isCompressed)
    case .framed: .framed(wire)
    case .hybi(_, let version): .hybi(wire, version: version)
    case .hixie(_, let hasClosingHandshake): .hixie(wire, hasClosingHandshake: hasClosingHandshake)
    case .lengthPrefixed: .lengthPrefixed(wire)
    case .lines: .lines(wire)
    case .chunks(_, let size): .chunks(wire, size: size)
    case .adapted: .adapted(wire)
    case .simple: .simple(wire)
    case .events(_, let isCompressed): .events(wire, isCompressed: isCompressed)
    case .upload: .upload(wire)
    case .download: .download(wire)
    }
  }

  /// Bytes of what arrives at once, at the most.
  var pieceSize: Int {
    if case .chunks(_, let size) = self { return min(size, wire?.pieceSize ?? size) }
    return wire?.pieceSize ?? .max
  }

  /// Bytes that it may hold between its ends: marks, what is read ahead, and the system's buffers.
  func capacity(largestElement: Int) -> Int {
    switch self {
    // They count elements, which may be those of the hop before together.
    case .memory(let mark), .memoryOnLoop(let mark): mark * max(largestElement, 64 << 10)
    // A stream's marks are up to 64 KiB each; an element in hexadecimal digits is twice as large.
    default: 4 * (64 << 10) + (wire?.window ?? 0)
    }
  }
}

extension Chain.Joint {
  init(_ random: inout SeededGenerator, before hop: Chain.Hop) {
    switch random.number(0..<9) {
    case 0, 1: self = .pipe
    case 2: self = .tee(bufferedBytes: random.pick([0, 1, 100_000]))
    case 3: self = .slowStage
    case 4: self = .endingLater(.milliseconds(random.number(1..<3000)))
    default:
      let policy = random.pick(BridgeEndPolicy.allCases)
      // Nobody answers, and so nothing would end what `defer` holds.
      self = .bridge((policy == .defer && hop.closesAsOne ? .close : policy).rawValue)
    }
  }
}

extension Chain.Fault {
  init(_ random: inout SeededGenerator, in chain: Chain) {
    let time = Duration.milliseconds(random.number(0..<1500))
    if let hop = chain.hops.firstIndex(where: \.isTLS), random.chance(8) {
      self = .garbage(hop: hop, at: time)
      return
    }
    switch random.number(0..<10) {
    case 4: self = .sourceFailsStalled(after: random.number(0..<chain.load.elements + 1))
    case 0: self = .sourceFails(after: random.number(0..<chain.load.elements + 1))
    // At once: before the task has begun.
    case 1: self = .cancel(joint: random.number(0..<chain.joints.count + 1), at: random.chance(3) ? .zero : time)
    case 2: self = .readerLeaves(at: time)
    case 3: self = .sinkFails(after: random.number(0..<chain.load.elements + 1))
    default: self = .wire(WireFault(&random, connections: chain.hops.count))
    }
  }
}

// MARK: smaller

extension Chain {
  var simpler: [Chain] {
    var plans: [Chain] = []
    func add(_ change: (inout Chain) -> Void) {
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
    if load.cancelsReads { add { $0.load.cancelsReads = false } }
    for index in joints.indices {
      if case .pipe = joints[index] { continue }
      add { $0.joints[index] = .pipe }
    }
    for (index, hop) in hops.enumerated() where hop.wire.map({ $0 != .plain }) ?? false {
      add { $0.hops[index] = hop.on(.plain) }
    }
    return plans
  }
}

extension Chain.Fault {
  fileprivate func concerns(hop index: Int, of plan: Chain) -> Bool {
    switch self {
    case .wire(let fault): fault.connection == index
    // A joint is in front of its hop.
    case .cancel(let joint, _): joint == index || joint == index + 1
    case .garbage(let hop, _): hop == index
    case .sourceFails, .sourceFailsStalled, .sinkFails, .readerLeaves: false
    }
  }

  fileprivate func withoutHop(_ index: Int) -> Chain.Fault {
    func moved(_ other: Int) -> Int { other > index ? other - 1 : other }
    switch self {
    case .wire(var fault):
      fault.connection = moved(fault.connection)
      return .wire(fault)
    case .cancel(let joint, let at): return .cancel(joint: moved(joint), at: at)
    case .garbage(let hop, let at): return .garbage(hop: moved(hop), at: at)
    case .sourceFails, .sourceFailsStalled, .sinkFails, .readerLeaves: return self
    }
  }
}

extension Chain {
  var description: String {
    var lines = [
      "\(load.elements) elements of up to \(load.largestElement) bytes, reader's delay \(load.readerDelay)\(load.cancelsReads ? ", its reads are cancelled" : "")"
    ]
    for (index, hop) in hops.enumerated() {
      if index > 0 { lines.append("    \(joints[index - 1])") }
      lines.append("  \(hop)")
    }
    for fault in faults { lines.append("  ! \(fault)") }
    return lines.joined(separator: "\n")
  }
}
