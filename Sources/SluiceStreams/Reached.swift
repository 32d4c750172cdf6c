#if SIMULATION
  import Synchronization
#endif

/// Counts how often branches are taken that are rare and matter: what shows that a simulated world is hard enough. `scripts/simulate` is built so that they
/// are counted, and lists those that a run did not reach; any other build contains nothing of it.
@usableFromInline
package enum Reached {
  #if SIMULATION
    private static let counts = Mutex<[String: Int]>([:])

    /// Counts a branch, by a name that no other has: the component, a point, what happens.
    @usableFromInline
    package static func mark(_ branch: StaticString) {
      counts.withLock { $0[branch.description, default: 0] += 1 }
    }

    /// Each branch that was reached, and how often.
    package static var all: [String: Int] { counts.withLock { $0 } }
  #else
    @inlinable
    @inline(__always)
    package static func mark(_ branch: StaticString) {}

    /// Nothing is counted.
    package static var all: [String: Int] { [:] }
  #endif
}
