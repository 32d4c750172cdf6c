import SluiceIO
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

/// Broadcasts to members of a simulated network: what happens between a broadcast and its members' own writers.
@Suite("Broadcasts and their members", .timeLimit(.minutes(1)))
struct BroadcastTests {
  /// A member over a simulated connection that gathers what is written in a turn.
  private final class Member: BroadcastMember, WriterHolding, @unchecked Sendable {  // touched on its loop only
    typealias Input = Bytes
    typealias Prepared = Bytes

    let stream: SimulatedStream
    var writer = RoomWaiters.nobody

    /// Wakes whoever waits when the stream does.
    private final class Room: SingleWaker, @unchecked Sendable {
      weak var member: Member?
      func wake() { member?.writer.wake() }
    }

    init(_ stream: SimulatedStream) throws {
      self.stream = stream
      let room = Room()
      try stream.attachWriter(room)
      room.member = self
    }

    static func prepare(_ element: Bytes) throws -> Bytes { element }
    func push(prepared: Bytes) throws { try stream.push(prepared) }
    func didMiss() {}
    func push(_ element: consuming Bytes) throws { try stream.push(element) }
    var loop: any Loop { stream.loop }
    var queuedByteCount: Int { stream.queuedByteCount }
    func hasRoom() throws -> Bool { try stream.hasRoom() }
    func flush() { stream.flush() }
    func abort(_ reason: any Error) { stream.abort(reason) }
    func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
      stream.closeWhenFlushed(completion)
    }
  }

  private static let chunk = Bytes([UInt8](repeating: 7, count: 10 << 10))

  /// Runs `body` with a member that takes part, and its peer.
  private func withMember(
    of room: Broadcast<Member>, window: Int = 64 << 10,
    _ body: @escaping @Sendable (Member, SimulatedStream, SimulatedLoop) async throws -> Void
  ) async throws {
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = window
      let (near, far) = network.connection()
      let member = try Member(near)
      try await room.serve(member) { try await body(member, far, loop) }
    }
  }

  @Test("what fills a member and leaves at the end of the turn makes room for whoever waits")
  func sameTurn() async throws {
    let room = Broadcast<Member>(whenSlow: .wait)
    try await withMember(of: room) { _, far, _ in
      for _ in 0..<4 { try await room.write(Self.chunk) }
      #expect(try await read(40 << 10, from: far).count == 40 << 10)
    }
  }

  @Test("a member whose own writer waits misses nothing, and its writer is not refused", arguments: [false, true])
  func ownWriter(ownIsFirst: Bool) async throws {
    let room = Broadcast<Member>(whenSlow: .wait)
    try await withMember(of: room, window: 1 << 10) { member, far, loop in
      try await room.write(Self.chunk)
      try member.push(Self.chunk)
      let own = { Task(executorPreference: loop) { try await member.write("own") } }
      let rooms = { Task(executorPreference: loop) { try await room.write("room") } }
      let first = ownIsFirst ? own() : rooms()
      try await loop.sleep(for: .seconds(1))
      let second = ownIsFirst ? rooms() : own()
      try await loop.sleep(for: .seconds(1))
      let all = try await read((20 << 10) + 7, from: far)
      #expect(all.suffix(7).string.count == 7)
      #expect(["ownroom", "roomown"].contains(all.suffix(7).string))
      try await first.value
      try await second.value
    }
  }

  @Test("every close waits until the members are closed, and an abort ends them all", arguments: [false, true])
  func secondClose(aborts: Bool) async throws {
    let room = Broadcast<Member>()
    try await withMember(of: room, window: 1 << 10) { _, far, loop in
      try await room.write(Self.chunk)
      let closed = Counter()
      let closing = (0..<2).map { _ in
        Task(executorPreference: loop) {
          try await room.close()
          closed.add(1)
        }
      }
      try await loop.sleep(for: .seconds(1))
      #expect(closed.value == 0)
      if aborts {
        room.abort(StreamError.aborted)
      } else {
        #expect(try await read(10 << 10, from: far).count == 10 << 10)
      }
      for task in closing { try await task.value }
    }
  }

  @Test("a write that is cancelled while it waits throws, and the next writer's turn comes")
  func cancelled() async throws {
    let room = Broadcast<Member>(whenSlow: .wait)
    try await withMember(of: room, window: 1 << 10) { _, far, loop in
      for _ in 0..<2 { try await room.write(Self.chunk) }
      let waiting = (0..<3).map { number in
        Task(executorPreference: loop) { try await room.write(Bytes("\(number)")) }
      }
      try await loop.sleep(for: .seconds(1))
      waiting[1].cancel()
      await #expect(throws: CancellationError.self) { try await waiting[1].value }
      waiting[0].cancel()
      await #expect(throws: CancellationError.self) { try await waiting[0].value }
      #expect(try await read((20 << 10) + 1, from: far).last == UInt8(ascii: "2"))
      try await waiting[2].value
    }
  }

  @Test("a member that leaves is not waited for any more")
  func leaving() async throws {
    let room = Broadcast<Member>(whenSlow: .wait)
    let loop = SimulatedLoop()
    try await loop.simulate {
      var network = SimulatedNetwork(loop: loop)
      network.window = 1 << 10
      let (near, far) = network.connection()
      let member = try Member(near)
      let leave = MemoryStream<Int>.pair()
      let serving = Task(executorPreference: loop) { try await room.serve(member) { _ = try await leave.0.read() } }
      while room.count < 1 { await Task.yield() }
      for _ in 0..<2 { try await room.write(Self.chunk) }
      let writing = Task(executorPreference: loop) { try await room.write("missed") }
      try await loop.sleep(for: .seconds(1))
      try await leave.1.write(1)
      try await serving.value
      try await writing.value
      #expect(room.count == 0)
      #expect(try await read(20 << 10, from: far).count == 20 << 10)
    }
  }

  @Test("a buffer holds so much beyond a member's own watermark before all wait")
  func buffer() async throws {
    let room = Broadcast<Member>(whenSlow: .buffer(100 << 10))
    try await withMember(of: room, window: 1 << 10) { member, far, loop in
      let count = Mutex(0)
      let writing = Task(executorPreference: loop) {
        for _ in 0..<30 {
          try await room.write(Self.chunk)
          count.withLock { $0 += 1 }
        }
      }
      try await loop.sleep(for: .seconds(1))
      #expect((10...11).contains(count.withLock { $0 }))
      #expect(try await read(300 << 10, from: far).count == 300 << 10)
      try await writing.value
    }
  }

  @Test("a broadcast does not hold the loops of members that have left, and is used after these have ended")
  func loops() async throws {
    let room = Broadcast<Member>()
    weak var weakLoop: SimulatedLoop?
    do {
      let loop = SimulatedLoop()
      weakLoop = loop
      try await loop.simulate {
        let (near, _) = SimulatedNetwork(loop: loop).connection()
        try await room.serve(try Member(near)) { try await room.write("x") }
        // What is under way holds the loop.
        try await loop.sleep(for: .seconds(1))
      }
    }
    for _ in 0..<500 where weakLoop != nil { try await Task.sleep(for: .milliseconds(2)) }
    #expect(weakLoop == nil)
    try await room.write("nobody")
  }
}
