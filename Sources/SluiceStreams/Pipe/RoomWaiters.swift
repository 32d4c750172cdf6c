/// Who waits for room in a sink: its one writer, and the broadcasts that it takes part in. A sink keeps nil while there is nobody.
package struct RoomWaiters: Sendable {
  fileprivate var writer: (any Waker)?
  fileprivate var broadcasts: [any Waker] = []

  package func wake() {
    writer?.wake()
    for broadcast in broadcasts { broadcast.wake() }
  }

  fileprivate var isEmpty: Bool { writer == nil && broadcasts.isEmpty }
}

extension RoomWaiters? {
  /// - Throws: `StreamError.concurrentWrite` if there is a writer.
  package mutating func attach(writer: any Waker) throws {
    guard self?.writer == nil else { throw StreamError.concurrentWrite }
    change { $0.writer = writer }
  }

  package mutating func detachWriter() { change { $0.writer = nil } }

  package mutating func attach(broadcast: any Waker) { change { $0.broadcasts.append(broadcast) } }

  package mutating func detach(broadcast: any Waker) { change { $0.broadcasts.removeAll { $0 === broadcast } } }

  private mutating func change(_ body: (inout RoomWaiters) -> Void) {
    var waiters = self ?? RoomWaiters()
    body(&waiters)
    self = waiters.isEmpty ? nil : waiters
  }
}
