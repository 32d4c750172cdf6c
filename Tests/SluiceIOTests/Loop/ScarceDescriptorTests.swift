import SluiceStreams
import Synchronization
import Testing

@testable import SluiceIO

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Leaves the process no more than so many descriptors.
private func limitDescriptors(to count: rlim_t) {
  var limit = rlimit(rlim_cur: count, rlim_max: count)
  unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}

@Suite("Descriptors that run out", .timeLimit(.minutes(1)))
struct ScarceDescriptorTests {
  @Test("a loop that finds none throws, with the name of the error")
  func loop() async {
    await #expect(processExitsWith: .success) {
      limitDescriptors(to: 4)
      do {
        _ = try UVLoop()
        exit(1)
      } catch {
        exit((error as? IOError)?.code == "EMFILE" ? 0 : 2)
      }
    }
  }

  @Test("the shared loop runs tasks and timers without any, says why nothing can be opened on it, and recovers")
  func sharedLoop() async {
    await #expect(processExitsWith: .success) {
      var blockers: [CInt] = []
      var limit = unsafe rlimit(rlim_cur: 64, rlim_max: 64)
      unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
      while true {
        let blocker = dup(0)
        if blocker < 0 { break }
        blockers.append(blocker)
      }
      func errorCode(_ body: () async throws -> Void) async -> String {
        do { try await body() } catch let error as IOError { return error.code } catch { return "\(error)" }
        return "none"
      }
      let before = ContinuousClock.now
      try await UVLoop.shared.sleep(for: .milliseconds(20))
      guard ContinuousClock.now - before >= .milliseconds(20) else { exit(1) }
      guard await errorCode({ _ = try await File.open("/etc/passwd") }) == "EMFILE" else { exit(2) }
      guard await errorCode({ _ = try await TCP.listen("127.0.0.1", port: 0) }) == "EMFILE" else { exit(3) }
      guard await errorCode({ _ = try await ChildProcess.shell("true") }) == "EMFILE" else { exit(4) }
      guard await errorCode({ _ = try await UnixSocket.listen("@sluice-scarce") }) == "EMFILE" else { exit(5) }
      for blocker in blockers { close(blocker) }
      guard await errorCode({ _ = try await File.open("/etc/passwd").collect(limit: 1 << 20) }) == "none" else {
        exit(6)
      }
      guard await errorCode({ _ = try await TCP.listen("127.0.0.1", port: 0) }) == "none" else { exit(7) }
      exit(0)
    }
  }

  @Test("no wake of another thread is lost while the loop gets its descriptors")
  func opening() async throws {
    for round in 0..<20 {
      let poller = SharedPoller(poller: Poller())
      let (woken, seen) = (Counter(), Counter())
      let waking = Task.detached {
        for turn in 1...400 {
          woken.value.add(1, ordering: .sequentiallyConsistent)
          poller.poller.wake()
          while seen.value.load(ordering: .sequentiallyConsistent) < turn { await Task.yield() }
        }
      }
      let hasLost = await Task.detached {
        var ends: [CInt] = [-1, -1]
        _ = unsafe pipe(&ends)
        let (libuv, other) = (ends[0], ends[1])
        defer {
          close(libuv)
          close(other)
        }
        for turn in 1...400 {
          if turn == 100 + round { _ = poller.poller.open(libuv: libuv) }
          poller.poller.wait(milliseconds: 5000)
          while poller.poller.hasEvents { poller.poller.tellOwners(ofEvents: 16) }
          guard poller.poller.awakening.contains(.byThread) else { return true }
          seen.value.store(turn, ordering: .sequentiallyConsistent)
        }
        return false
      }.value
      #expect(!hasLost)
      if hasLost { seen.value.store(400, ordering: .sequentiallyConsistent) }
      await waking.value
      poller.poller.close()
    }
  }

  @Test("what a timer has closed is freed without another event")
  func closedByTimer() async throws {
    let loop = try UVLoop(name: "quiet")
    defer { loop.stop() }
    var ends: [CInt] = [-1, -1]
    try #require(unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
    let (ours, peers) = (ends[0], ends[1])
    defer { close(peers) }
    let freed = Freed()
    try await loop.run {
      let watch = try DescriptorWatch(ours, blocks: true, on: loop, operation: "open", subject: "ours")
      let stream = SocketStream(watch, on: loop, name: "ours")
      // Is let go of with the stream, whose reader it is.
      try stream.attachReader(Reader(freed))
      _ = loop.schedule(after: .milliseconds(20)) { stream.abort(StreamError.aborted) }
    }
    let end = ContinuousClock.now + .seconds(10)
    while !freed.isSet && ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(5)) }
    #expect(freed.isSet)
  }
}

/// Waited with by one thread, woken by another.
private struct SharedPoller: @unchecked Sendable {
  let poller: Poller
}

private final class Counter: Sendable {
  let value = Atomic<Int>(0)
}

private final class Freed: Sendable {
  private let count = Atomic<Int>(0)
  var isSet: Bool { count.load(ordering: .sequentiallyConsistent) > 0 }
  func set() { count.add(1, ordering: .sequentiallyConsistent) }
}

/// Says when it is freed.
private final class Reader: Waker {
  private let freed: Freed
  init(_ freed: Freed) { self.freed = freed }
  deinit { freed.set() }
  func wakeReader() {}
  func wakeWriter() {}
}
