/// Tells a task from every other that has not ended.
package struct TaskIdentity: Hashable, Sendable {
  private let address: UInt

  private init(address: UInt) { self.address = address }

  /// A task's; nobody's for nil.
  package init(of task: Task<Void, any Error>?) {
    // A reference and nothing else, like the one below.
    address = unsafe withUnsafeBytes(of: task) { bytes in
      bytes.count == MemoryLayout<UInt>.size ? unsafe bytes.load(as: UInt.self) : 0
    }
  }

  /// The calling task's; nobody's if there is no task.
  package static var current: TaskIdentity {
    let address = unsafe withUnsafeCurrentTask { task in
      // A reference to the task and nothing else: read in place, as copying and comparing values of this type is done by calls
      // into the library.
      unsafe withUnsafeBytes(of: task) { bytes in
        bytes.count == MemoryLayout<UInt>.size ? unsafe bytes.load(as: UInt.self) : 0
      }
    }
    return TaskIdentity(address: address)
  }
}
