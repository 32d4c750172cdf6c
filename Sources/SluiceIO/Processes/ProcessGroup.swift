import CSluiceSystem
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A command and what it has started, as one: the session that the command leads, with its process group and, on Linux, what has made groups of
/// their own in it, as `timeout` and a shell with job control do.
///
/// What has made a session for itself (`setsid`, a daemon) is not in it, and has said so that it is to stay.
///
/// A group that nobody wants any more is ended step by step: it has some time by itself, then SIGTERM, then some time again, then
/// SIGKILL. Should our process die meanwhile, `GroupGuard` does it.
final class ProcessGroup: @unchecked Sendable {  // touched on its loop only
  private let loop: UVLoop
  /// The id of the process that leads it.
  private let id: pid_t
  private let ending: ChildProcess.Ending
  private var stage = Stage.wanted
  /// Whether it got SIGTERM by `terminate`.
  private(set) var wasTerminated = false

  private enum Stage {
    case wanted
    /// It has its time to end by itself.
    case released(LoopTimer)
    case terminated(LoopTimer)
    /// Nothing of it is left, or it was killed: its id may be another's.
    case over
  }

  init(_ id: pid_t, _ ending: ChildProcess.Ending, on loop: UVLoop) {
    self.id = id
    self.ending = ending
    self.loop = loop
    if ending.followsUs { GroupGuard.add(id, ending) }
  }

  /// Sends a signal to every process of it.
  /// - Returns: false if there is none.
  @discardableResult
  func signal(_ signal: Signal) -> Bool {
    if case .over = stage { return false }
    // EPERM: there is one, but it has become another user's.
    let isLed = kill(-id, signal.number) == 0 || errno == EPERM
    // Looking at every process of the system is for when it matters.
    if isLed && signal.number == 0 { return true }
    return sluice_signal_other_groups(id, signal.number) > 0 || isLed
  }

  /// Nobody wants it any more: it has `terminateAfter` to end by itself.
  /// - Parameter progress: What is different as long as it gets on with its input. Then the time begins anew.
  func release(progress: @escaping @Sendable () -> Int) {
    guard case .wanted = stage else { return }
    guard isAlive else { return finish() }
    giveTime(since: progress(), progress)
  }

  private func giveTime(since last: Int, _ progress: @escaping @Sendable () -> Int) {
    let timer = loop.schedule(after: ending.terminateAfter) {
      let now = progress()
      if now == last { self.terminate() } else { self.giveTime(since: now, progress) }
    }
    stage = .released(timer)
  }

  /// Sends SIGTERM now.
  func terminate() {
    switch stage {
    case .wanted: break
    case .released(let timer): loop.cancelTimer(timer)
    case .terminated, .over: return
    }
    guard signal(.terminate) else { return finish() }
    wasTerminated = true
    // One that was stopped does not notice otherwise.
    signal(.continue)
    stage = .terminated(
      loop.schedule(after: ending.killAfter) {
        self.signal(.kill)
        self.finish()
      })
  }

  /// The process that leads it has exited and was reaped: what else there is may go on.
  func leaderDidExit() {
    if !isAlive { finish() }
  }

  private var isAlive: Bool { signal(Signal(number: 0)) }

  private func finish() {
    switch stage {
    case .over: return
    case .released(let timer), .terminated(let timer): loop.cancelTimer(timer)
    case .wanted: break
    }
    stage = .over
    if ending.followsUs { GroupGuard.remove(id) }
  }
}
