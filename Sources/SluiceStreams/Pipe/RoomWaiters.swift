/// Who waits for room in a sink: its one writer, and the broadcasts that it takes part in.
package enum RoomWaiters: Sendable {
  case nobody
  case writer(any Waker)
  /// Behind a pointer: an idle sink holds the memory of a writer only.
  indirect case broadcasts([any Waker], writer: (any Waker)?)

  package func wake() {
    switch self {
    case .nobody: break
    case .writer(let writer): writer.wakeWriter()
    case .broadcasts(let broadcasts, let writer):
      writer?.wakeWriter()
      for broadcast in broadcasts { broadcast.wakeWriter() }
    }
  }

  /// - Throws: `StreamError.concurrentWrite` if there is a writer.
  package mutating func attach(writer: any Waker) throws {
    if hasWriter { throw StreamError.concurrentWrite }
    self = RoomWaiters(writer, broadcasts)
  }

  package mutating func detachWriter() { self = RoomWaiters(nil, broadcasts) }

  package mutating func attach(broadcast: any Waker) { self = RoomWaiters(writer, broadcasts + [broadcast]) }

  package mutating func detach(broadcast: any Waker) {
    self = RoomWaiters(writer, broadcasts.filter { $0 !== broadcast })
  }

  private init(_ writer: (any Waker)?, _ broadcasts: [any Waker]) {
    if !broadcasts.isEmpty {
      self = .broadcasts(broadcasts, writer: writer)
    } else {
      self = writer.map { .writer($0) } ?? .nobody
    }
  }

  package var hasWriter: Bool { writer != nil }

  private var writer: (any Waker)? {
    switch self {
    case .nobody: nil
    case .writer(let writer): writer
    case .broadcasts(_, let writer): writer
    }
  }

  private var broadcasts: [any Waker] {
    if case .broadcasts(let broadcasts, _) = self { broadcasts } else { [] }
  }
}

/// A sink that holds itself those who wait for room in it.
package protocol WriterHolding: PolledWritableStream, AnyObject {
  var writer: RoomWaiters { get set }
}

extension WriterHolding {
  public func attachWriter(_ waker: any Waker) throws {
    assertOnLoop()
    try writer.attach(writer: waker)
  }

  public func detachWriter() {
    assertOnLoop()
    writer.detachWriter()
  }

  public func attachBroadcast(_ waker: any Waker) {
    assertOnLoop()
    writer.attach(broadcast: waker)
  }

  public func detachBroadcast(_ waker: any Waker) {
    assertOnLoop()
    writer.detach(broadcast: waker)
  }
}
