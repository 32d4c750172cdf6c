import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting

extension Chain {
  func live(on stage: Stage) async throws {
    let record = ChainRecord(self, stage)
    var connections: [Connection] = []
    for hop in hops { connections.append(try await hop.open(on: stage)) }
    let all = connections
    var joints: [Task<Void, Never>] = []
    for index in 0...self.joints.count {
      joints.append(stage.begin("joint \(index)") { await move(joint: index, all, record, stage) })
    }
    let reader = stage.begin("reader") { await collect(from: all[all.count - 1].far, record, stage) }
    for fault in faults { cause(fault, all, joints, stage) }
    for joint in joints { await joint.value }
    await reader.value
    // What is left of them ends within its own times.
    for connection in all {
      connection.near.cancel(nil)
      connection.far.cancel(nil)
    }
    record.judge()
  }

  // MARK: what is done

  private func move(joint index: Int, _ all: [Connection], _ record: ChainRecord, _ stage: Stage) async {
    let near = all[index].near
    do {
      if index == 0 {
        try await send(Readable { try record.nextElement() }, to: near, record)
      } else {
        try await move(from: all[index - 1].far, to: near, joints[index - 1], stage)
      }
      stage.note("joint \(index) ended")
    } catch {
      record.failed(joint: index, error)
    }
    // As who has opened a connection does in the end: what it is not interested in, it reads to the end, as a system answers it by a reset otherwise.
    if index > 0 {
      let far = all[index - 1].far
      far.cancel(nil)
      try? await far.close()
    }
    // Who cancels that instead ends a direction: a bridge that is to close both at once (`closeBoth`) then cuts this one, with what it has not read.
    do { while try await near.read() != nil {} } catch {}
    near.cancel(nil)
  }

  private func move(
    from far: any DuplexStream<Bytes, Bytes>, to near: any DuplexStream<Bytes, Bytes>, _ joint: Joint, _ stage: Stage
  ) async throws {
    switch joint {
    case .pipe: try await pipe(far, near)
    case .bridge(let policy):
      try await connect(far, near, BridgeOptions(onEnd: BridgeEndPolicy(rawValue: policy) ?? .afterAnswer))
    case .tee(let count): try await pipeBranch(of: far, near, bufferedBytes: count, stage)
    case .endingLater(let delay): try await pipe(far, endingLaterBy: delay, near)
    case .slowStage:
      let loop = stage.loop
      try await pipe(
        AnyReadable(
          far.delayed {
            try await loop.sleep(for: .milliseconds(1))
            return $0
          }), AnyWritable(near))
    }
  }

  private func pipe(_ source: some ReadableStream<Bytes>, _ sink: some WritableStream<Bytes>) async throws {
    try await source.pipe(sink)
  }

  private func pipe(
    _ source: some ReadableStream<Bytes>, endingLaterBy delay: Duration, _ sink: some WritableStream<Bytes>
  ) async throws {
    try await source.endingLater(by: delay).pipe(sink)
  }

  private func send(
    _ source: some ReadableStream<Bytes>, to sink: some WritableStream<Bytes>, _ record: ChainRecord
  ) async throws {
    for case .sinkFails(let count) in faults {
      return try await source.pipe(sink.behind(Refusing(after: count, record)))
    }
    try await source.pipe(sink)
  }

  private func connect(
    _ a: some DuplexStream<Bytes, Bytes>, _ b: some DuplexStream<Bytes, Bytes>, _ options: BridgeOptions
  ) async throws {
    try await bridge(a, b, options: options)
  }

  private func pipeBranch(
    of source: some ReadableStream<Bytes>, _ sink: some WritableStream<Bytes>, bufferedBytes: Int, _ stage: Stage
  ) async throws {
    let branches = source.tee(.wait, .buffer(bufferedBytes), .dropOldest(1000), .dropNewest(1000), .disconnect(1000))
    // Whoever is cancelled while it reads the source for all leaves it as it was.
    let others = branches.dropFirst().map { branch in
      startTask {
        do { while try await stage.readImpatiently({ try await branch.read() }) != nil {} } catch {
          // Not by the cancellation of whoever reads another branch.
          if error is CancellationError, !isCancelling {
            stage.violate("a branch heard of a cancellation that was not its own")
          }
        }
      }
    }
    defer { for branch in branches { branch.cancel(nil) } }
    do { try await branches[0].pipe(sink) } catch {
      for branch in branches { branch.cancel(nil) }
      for other in others { try? await other.value }
      throw error
    }
    for other in others { try await other.value }
  }

  private var isCancelling: Bool { faults.contains { if case .cancel = $0 { true } else { false } } }

  private func collect(from stream: any DuplexStream<Bytes, Bytes>, _ record: ChainRecord, _ stage: Stage) async {
    do {
      while let chunk = load.cancelsReads
        ? try await stage.readImpatiently({ try await stream.read() }) : try await stream.read()
      {
        record.receive(chunk)
        if load.readerDelay > .zero { try await stage.loop.sleep(for: load.readerDelay) }
      }
      record.didEnd(nil)
    } catch {
      record.didEnd(error)
    }
    await record.expectSameEnd(of: stream)
    stream.cancel(nil)
    try? await stream.close()
  }

  // MARK: what goes wrong

  private func cause(_ fault: Fault, _ all: [Connection], _ joints: [Task<Void, Never>], _ stage: Stage) {
    switch fault {
    case .wire(let fault): fault.apply(to: all[fault.connection].wire, on: stage)
    case .sourceFails, .sinkFails: break
    case .sourceFailsStalled:
      all[0].wire?.near.stall(true)
      stage.at(.seconds(60)) { all[0].wire?.near.stall(false) }
    case .garbage(let hop, let time):
      // Behind a record that is whole, and read with it.
      stage.at(time) { all[hop].wire?.near.insert(Bytes(repeatElement(0xFF, count: 64))) }
    case .cancel(let joint, .zero): joints[joint].cancel()
    case .cancel(let joint, let time): stage.at(time) { joints[joint].cancel() }
    case .readerLeaves(let time):
      stage.at(time) {
        stage.note("reader left")
        all[all.count - 1].far.cancel(nil)
      }
    }
  }
}

/// Refuses an element, which the sender is told.
private struct Refusing: Transform {
  let record: ChainRecord
  private var left: Int

  init(after count: Int, _ record: ChainRecord) {
    self.record = record
    left = count
  }

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    if left == 0 { throw record.refuse(input) }
    left -= 1
    output.append(input)
  }
}

extension ReadableStream {
  fileprivate func delayed(_ body: @escaping @Sendable (Output) async throws -> Output) -> AnyReadable<Output> {
    AnyReadable(map(body))
  }
}
