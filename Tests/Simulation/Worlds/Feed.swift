import Sluice
import SluiceStreams
import SluiceTLS
import SluiceTesting
import Synchronization

/// A pipe from somebody who speaks now and then, and behind that is silent for long, to a connection that may fail meanwhile.
///
/// - Without a fault that ends something all arrives, and the pipe ends with its source.
/// - A pipe whose sink has failed ends within the times that have names, though its source says nothing: it is the sink that tells, and no element
///   is needed to find out.
struct Feed: World {
  var source: Chain.Hop
  var sink: Chain.Hop
  var elements: Int
  var largestElement: Int
  /// Before each element.
  var pause: Duration
  var silence: Duration
  var faults: [WireFault]
  /// Whether who speaks asks for new keys of TLS behind each element, which the protocol itself answers.
  var asksForKeys: Bool

  init(_ random: inout SeededGenerator) {
    source = random.pick([
      .memoryOnLoop(highWatermark: 4), .tcp(.plain), .tls(.plain), .webSocket(.plain, isCompressed: false),
      .lengthPrefixed(.plain),
    ])
    sink = Self.tellingSink(&random)
    elements = random.pick([1, 1, 2, 5, 30])
    largestElement = random.pick([1, 100, 20_000])
    if sink.pieceSize < 1000 { largestElement = min(largestElement, 2000) }
    pause = .milliseconds(random.pick([0, 10, 500, 3000]))
    silence = .seconds(250)
    faults = []
    for _ in 0..<random.pick([0, 1, 1, 1]) {
      var fault = WireFault(&random, connections: 1)
      if random.chance(2) { fault.kind = .sendFails }
      faults.append(fault)
    }
    asksForKeys = random.chance(2)
  }

  private static func tellingSink(_ random: inout SeededGenerator) -> Chain.Hop {
    while true {
      let hop = Chain.Hop(&random)
      if hop.wire != nil, hop.tellsOfFailure { return hop }
    }
  }

  var simpler: [Feed] {
    var worlds: [Feed] = []
    func add(_ change: (inout Feed) -> Void) {
      var world = self
      change(&world)
      worlds.append(world)
    }
    for index in faults.indices { add { $0.faults.remove(at: index) } }
    if elements > 1 { add { $0.elements /= 2 } }
    if largestElement > 1 { add { $0.largestElement = max(largestElement / 4, 1) } }
    if pause > .zero { add { $0.pause = .zero } }
    if asksForKeys { add { $0.asksForKeys = false } }
    if case .memoryOnLoop = source {} else { add { $0.source = .memoryOnLoop(highWatermark: 4) } }
    if sink.wire.map({ $0 != .plain }) ?? false { add { $0.sink = sink.on(.plain) } }
    return worlds
  }

  var faultNames: [String] { faults.map(\.kind.rawValue) }

  var description: String {
    "a feed of \(elements) × \(largestElement) bytes, \(pause) apart, and then silence for \(silence)\n  \(source)\n    pipe\n  \(sink)"
      + faults.map { "\n  ! \($0)" }.joined()
  }

  // MARK: life

  /// What failed may say why for a time, and what came before may be read for one.
  private static let longestEnd = Duration.seconds(100)

  func live(on stage: Stage) async throws {
    let from = try await source.open(on: stage)
    let to = try await sink.open(on: stage)
    let received = Mutex(0)
    let sent = Mutex(0)
    let piping = stage.begin("pipe") {
      var hasFailed = false
      do {
        try await pipe(from.far, to.near)
        stage.note("pipe ended")
        stage.outcome("feed: ended")
      } catch {
        hasFailed = true
        stage.note("pipe failed: \(type(of: error))")
        stage.outcome("feed: \(type(of: error))")
        if faults.allSatisfy(\.isHarmless) { stage.violate("a pipe failed though nothing else had: \(error)") }
      }
      for failed in failureTimes(of: to) where stage.loop.now - failed > Self.longestEnd {
        stage.violate("a pipe went on for \(stage.loop.now - failed) when its sink had failed")
      }
      // Who hears of a failure gives both up.
      if hasFailed { to.near.abort(StreamError.aborted) }
      to.near.cancel(nil)
      from.far.cancel(nil)
      try? await from.far.close()
    }
    let reading = stage.begin("reader") {
      do {
        while let chunk = try await to.far.read() {
          stage.note("read \(chunk.count)")
          received.withLock { $0 += chunk.count }
        }
        stage.note("end")
      } catch { stage.note("reader failed: \(type(of: error))") }
      to.far.cancel(nil)
      try? await to.far.close()
    }
    let speaking = stage.begin("speaker") {
      do {
        for _ in 0..<elements {
          if pause > .zero { try await stage.loop.sleep(for: pause) }
          let size = stage.random(in: 1...largestElement)
          try await from.near.write(Bytes(repeatElement(UInt8(ascii: "f"), count: size)))
          sent.withLock { $0 += size }
          if asksForKeys, let secure = from.near as? TLSStream { try await secure.updateKeys() }
        }
        try await stage.loop.sleep(for: silence)
        try await from.near.close()
      } catch { stage.note("speaker failed: \(type(of: error))") }
    }
    for fault in faults { fault.apply(to: to.wire, on: stage) }
    for task in [piping, speaking, reading] { await task.value }
    for stream in [from.near, from.far, to.near, to.far] { stream.cancel(nil) }
    from.near.abort(StreamError.aborted)
    let (came, gone) = (received.withLock { $0 }, sent.withLock { $0 })
    if came > gone { stage.violate("more came than was said") }
    if came < gone, faults.allSatisfy(\.isHarmless) { stage.violate("\(came) of \(gone) bytes arrived") }
  }

  /// When the writing of the sink's connection has failed.
  private func failureTimes(of sink: Connection) -> [Duration] {
    var times: [Duration] = []
    if let failed = sink.wire?.near.sendFailureTime { times.append(failed) }
    for fault in faults where fault.kind == .reset { times.append(fault.time) }
    return times
  }

  private func pipe(_ source: some ReadableStream<Bytes>, _ sink: some WritableStream<Bytes>) async throws {
    try await source.pipe(sink)
  }
}
