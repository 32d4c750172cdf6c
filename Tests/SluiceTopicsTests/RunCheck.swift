import SluiceTopics
import Testing

/// Numbers from one writer, and what a reader of another process sees of them while something happens to the engine.
/// - Parameters:
///   - connect: As another process would.
///   - during: What happens.
func checkRun(
  count: Int, connecting connect: @Sendable (TopicsOptions) async throws -> Topics,
  during: @escaping @Sendable () async throws -> Void
) async throws {
  var options = TopicsOptions()
  options.ringBytes = 16 << 10
  let (here, there) = (try await connect(options), try await connect(options))
  let reader = try await there.topic("run").messages(from: .earliest)
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask {
      let sink = try here.topic("run").writer()
      for number in 0..<count {
        try await sink.write("\(number)")
        if number % 20 == 0 { try await Task.sleep(for: .milliseconds(5)) }
      }
      try await sink.close()
    }
    group.addTask { try await during() }
    group.addTask {
      var last: Position?
      for number in 0..<count {
        let message = try #require(try await reader.read())
        try #require(message.text == "\(number)")
        if let last, last.epoch == message.position.epoch { #expect(message.position.offset == last.offset + 1) }
        last = message.position
      }
    }
    try await group.waitForAll()
  }
  let all = try await there.topic("run").messages(from: .earliest).texts(count: count)
  #expect(all == (0..<count).map { "\($0)" })
  await here.close()
  await there.close()
}
