import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting
import Synchronization

/// Runs a plan on virtual time, and says what went against the rules:
///
/// - What arrives is a beginning of what was sent.
/// - Without a fault that ends something, all of it arrives, nothing fails, and the end is a clean one.
/// - When only the source fails, all that it gave arrives, and what follows is told as a failure: nobody takes a part for the whole.
/// - Everything ends by itself, within the times that have names, and leaves no timer behind.
struct World: Sendable {
  let plan: Plan
  let identities: Identities

  struct Result: Sendable {
    var violations: [String]
    /// A hash of what happened, and when.
    var trace: UInt64
    var virtualTime: Duration
    var received: Int
    var outcomes: Set<String>
  }

  /// How long everything together may take. The longest times that count are `stallTimeout` and `halfCloseTimeout`, 30 seconds each, for each hop.
  private static let longestLife = Duration.seconds(1200)

  func run() async throws -> Result {
    let loop = SimulatedLoop(permutingTasksBy: plan.seed)
    let record = Record(plan)
    do {
      try await loop.simulate { try await live(loop, record) }
    } catch is SimulatedLoop.Stuck {
      record.note("stuck: \(record.open.joined(separator: ", ")) wait for what nobody will do")
    }
    return record.result(at: loop.now)
  }

  private func live(_ loop: SimulatedLoop, _ record: Record) async throws {
    var connections: [Connection] = []
    for hop in plan.hops { connections.append(try await hop.open(on: loop, identities)) }
    let all = connections
    var joints: [Task<Void, Never>] = []
    for index in 0...plan.joints.count {
      record.begin("joint \(index)")
      joints.append(
        Task(executorPreference: loop) {
          await move(joint: index, all, record, loop)
          record.end("joint \(index)")
        })
    }
    record.begin("reader")
    let reader = Task(executorPreference: loop) {
      await collect(from: all[all.count - 1].far.stream, record, loop)
      record.end("reader")
    }
    let moving = joints
    for fault in plan.faults { cause(fault, all, moving, record, loop) }
    let watch = loop.schedule(after: Self.longestLife) {
      record.note("not ended after \(Self.longestLife): \(record.open.joined(separator: ", "))")
      for joint in moving { joint.cancel() }
      reader.cancel()
      for connection in all { connection.wire?.near.abort(StreamError.aborted) }
    }
    for joint in moving { await joint.value }
    await reader.value
    loop.cancelTimer(watch)
    // What is left of them ends within its own times.
    for connection in all {
      connection.near.stream.cancel(nil)
      connection.far.stream.cancel(nil)
    }
    try? await loop.sleep(for: .seconds(120))
    if loop.openTimers > 0 { record.note("\(loop.openTimers) timers are left") }
  }

  // MARK: what is done

  private func move(joint index: Int, _ all: [Connection], _ record: Record, _ loop: SimulatedLoop) async {
    let near = all[index].near.stream
    do {
      if index == 0 {
        try await pipe(Readable { try record.nextElement() }, near)
      } else {
        let far = all[index - 1].far.stream
        switch plan.joints[index - 1] {
        case .pipe: try await pipe(far, near)
        case .bridge: try await connect(far, near)
        }
      }
      record.outcome("joint \(index) ended", at: loop.now)
    } catch {
      record.failed(joint: index, error, at: loop.now)
    }
    // As who has opened a connection does in the end.
    if index > 0 {
      let far = all[index - 1].far.stream
      far.cancel(nil)
      try? await far.close()
    }
    near.cancel(nil)
  }

  private func pipe(_ source: some ReadableStream<Bytes>, _ sink: some WritableStream<Bytes>) async throws {
    try await source.pipe(sink)
  }

  private func connect(_ a: some DuplexStream<Bytes, Bytes>, _ b: some DuplexStream<Bytes, Bytes>) async throws {
    try await bridge(a, b)
  }

  private func collect(from stream: any DuplexStream<Bytes, Bytes>, _ record: Record, _ loop: SimulatedLoop) async {
    do {
      while let chunk = try await stream.read() {
        record.receive(chunk, at: loop.now)
        if plan.load.readerDelay > .zero { try await loop.sleep(for: plan.load.readerDelay) }
      }
      record.didEnd(nil, at: loop.now)
    } catch {
      record.didEnd(error, at: loop.now)
    }
    stream.cancel(nil)
    try? await stream.close()
  }

  // MARK: what goes wrong

  private func cause(
    _ fault: Plan.Fault, _ all: [Connection], _ joints: [Task<Void, Never>], _ record: Record, _ loop: SimulatedLoop
  ) {
    switch fault {
    case .stall(let hop, let time, let duration):
      guard let wire = all[hop].wire else { return }
      _ = loop.schedule(after: time) {
        wire.near.stall(true)
        _ = loop.schedule(after: duration) { wire.near.stall(false) }
      }
    case .reset(let hop, let time):
      _ = loop.schedule(after: time) { all[hop].wire?.near.abort(ConnectionReset()) }
    case .cut(let hop, let time):
      _ = loop.schedule(after: time) { all[hop].wire?.near.closeWhenFlushed { _ in } }
    case .sourceFails: break
    case .cancel(let joint, let time): _ = loop.schedule(after: time) { joints[joint].cancel() }
    case .readerLeaves(let time):
      _ = loop.schedule(after: time) {
        record.outcome("reader left", at: loop.now)
        all[all.count - 1].far.stream.cancel(nil)
      }
    }
  }
}
