import CSluiceRuntime

/// Tells a task from every other that has not ended.
package struct TaskIdentity: Equatable, Sendable {
  fileprivate let address: UInt

  fileprivate init(address: UInt) { self.address = address }

  /// A task's; nobody's for nil.
  package init(of task: Task<Void, any Error>?) {
    // A reference and nothing else.
    address = unsafe withUnsafeBytes(of: task) { bytes in
      bytes.count == MemoryLayout<UInt>.size ? unsafe bytes.load(as: UInt.self) : 0
    }
  }

  package static func == (left: TaskIdentity, right: TaskIdentity) -> Bool { left.address == right.address }
}

/// The calling task.
@safe package struct CurrentTask {
  private let task: UnsafeMutableRawPointer?

  /// As long as it does not end.
  package init() { unsafe task = sluice_current_task() }

  /// Nobody's if there is no task.
  package var identity: TaskIdentity { unsafe TaskIdentity(address: UInt(bitPattern: task)) }

  package var isCancelled: Bool { unsafe task.map { unsafe sluice_is_cancelled($0) } ?? false }
}
