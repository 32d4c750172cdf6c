import CSluiceSystem
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Processes whose parents have died: the system gives them to process 1, or to a subreaper (PR_SET_CHILD_SUBREAPER of Linux), and they stay
/// as zombies until that has waited for them.
package enum Orphans {
  /// Children that libuv waits for.
  private static let known = Mutex<Set<pid_t>>([])

  /// Starts a process that libuv waits for.
  /// - Parameter body: Gives its id; nothing is reaped meanwhile.
  static func excluding(_ body: () -> pid_t?) {
    known.withLock { known in
      if let process = body() { known.insert(process) }
    }
  }

  /// libuv has reaped it.
  static func include(_ process: pid_t) { known.withLock { _ = $0.remove(process) } }

  /// Reaps what this process adopts, until the task is cancelled. Children that the program itself has started otherwise than by
  /// `ChildProcess` are reaped too: for programs that have none.
  package static func reap(on loop: UVLoop = .shared) async throws {
    let exits = Signals([.child], on: loop)
    defer { exits.cancel() }
    repeat {
      // libuv may not have come to its own yet, which hide what comes behind them.
      while reapExited() { try await loop.sleep(for: .milliseconds(10)) }
    } while try await exits.read() != nil
  }

  /// - Returns: whether there is more to reap behind what libuv waits for.
  private static func reapExited() -> Bool {
    known.withLock { known in
      while true {
        let process = sluice_exited_child()
        if process <= 0 { return false }
        if known.contains(process) { return true }
        waitpid(process, nil, WNOHANG)
      }
    }
  }
}
