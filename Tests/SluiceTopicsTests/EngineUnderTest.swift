import SluiceStreams
import SluiceTopics
import Synchronization
import Testing

/// An engine that the conformance suite runs on: with a server of its own for each test, where it needs one.
struct EngineUnderTest: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let start: @Sendable () async throws -> any EngineHost

  static let memory = EngineUnderTest(testDescription: "memory") { MemoryHost() }

  static let all: [EngineUnderTest] = {
    var all = [memory]
    #if SQLite
      all.append(sqlite)
    #endif
    #if Redis
      all += [redis, redisCluster]
    #endif
    #if NATS
      all.append(nats)
    #endif
    return all
  }()

  /// With a cluster whose streams take seconds until they are made, on a busy machine.
  static let withSlowCluster: [EngineUnderTest] = {
    var all = EngineUnderTest.all
    #if NATS
      all.append(natsCluster)
    #endif
    return all
  }()
}

/// Where the logs of a test are. Each `connect` is what another process would have.
protocol EngineHost: Sendable {
  func connect(_ options: TopicsOptions) async throws -> Topics
  /// Loses all data of a topic.
  func wipe(_ topic: String) async throws
  func stop() async
}

private struct MemoryHost: EngineHost {
  let engine = MemoryTopicEngine()

  func connect(_ options: TopicsOptions) -> Topics { Topics(engine: engine, options: options) }
  func wipe(_ topic: String) { engine.wipe(topic) }
  func stop() async { await engine.close() }
}

extension EngineUnderTest {
  /// Runs a test with topics of two processes.
  func run(
    _ options: TopicsOptions = TopicsOptions(), _ body: (Topics, Topics, any EngineHost) async throws -> Void
  ) async throws {
    let host = try await start()
    do {
      let (one, other) = (try await host.connect(options), try await host.connect(options))
      do { try await body(one, other, host) } catch {
        await one.close()
        await other.close()
        throw error
      }
      await one.close()
      await other.close()
    } catch {
      await host.stop()
      throw error
    }
    await host.stop()
  }
}

extension TopicReader {
  /// The next messages, so many.
  func read(count: Int) async throws -> [TopicMessage] {
    var messages: [TopicMessage] = []
    while messages.count < count, let message = try await read() { messages.append(message) }
    return messages
  }

  func texts(count: Int) async throws -> [String] { try await read(count: count).map(\.text) }
}

/// What an observer was told, as text.
final class RecordingObserver: TopicObserver {
  private let counts = Mutex<[String: Int]>([:])

  func count(_ name: String) -> Int { counts.withLock { $0[name] ?? 0 } }
  private func add(_ name: String, _ count: Int = 1) { counts.withLock { $0[name, default: 0] += count } }

  func didAppend(topic: String, count: Int, byteCount: Int) { add("appended", count) }
  func didFailToAppend(topic: String, count: Int) { add("failed", count) }
  func didFallBehind(topic: String) { add("fell behind") }
  func didReadLog(topic: String, count: Int) { add("log reads") }
  func didLose(topic: String, _ loss: TopicLoss) { add("losses") }
  func didDisconnect(_ reason: any Error) { add("disconnects") }
}

final class Counter: Sendable {
  private let count = Mutex(0)
  var value: Int { count.withLock { $0 } }
  func increment() { count.withLock { $0 += 1 } }
}
