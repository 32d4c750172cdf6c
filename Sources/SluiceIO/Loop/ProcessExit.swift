import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Stops the threads of all loops where they stand when the process leaves by `exit`, or by returning from `main`.
///
/// What runs then, after the handlers of `atexit`, is libuv's destructor: it takes from the loops what their threads still use, which aborted one
/// exit in some hundred.
enum ProcessExit {
  /// The loops that have a thread, or are run by one.
  private static let running = Mutex<[ObjectIdentifier: UVLoop]>([:])
  private static let handler: Void = { atexit { ProcessExit.parkLoops() } }()

  /// How long a loop may go on with what it does: milliseconds. What then still computes is left alone.
  private static let patience = 200

  static func willRun(_ loop: UVLoop) {
    _ = handler
    running.withLock { $0[ObjectIdentifier(loop)] = loop }
  }

  static func didRun(_ loop: UVLoop) {
    running.withLock { $0[ObjectIdentifier(loop)] = nil }
  }

  private static func parkLoops() {
    // The loop that `exit` is called on does nothing else any more.
    let others = running.withLock { $0.values.filter { !$0.isCurrent } }
    let parked = DispatchSemaphore(value: 0)
    for loop in others {
      loop.execute {
        parked.signal()
        while true { pause() }
      }
    }
    let deadline = DispatchTime.now() + .milliseconds(patience)
    for _ in others where parked.wait(timeout: deadline) == .timedOut { return }
  }
}
