import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

@testable import SluiceWebSocket

/// Every way in which a connection can end ends everything that can be waited for, with an error that says why.
@Suite("Every wait ends with its connection", .timeLimit(.minutes(2)))
struct EndMatrixTests {
  enum End: CaseIterable {
    case peerCloses, peerClosesWithFailure, peerResets, peerEnds, protocolViolation
    case closeIsAnswered, closeIsNotAnswered, abort, cancel
    case idle, keepalive, stall

    var options: WebSocketHandshakeOptions {
      var options = WebSocketHandshakeOptions()
      switch self {
      case .idle: options.connection.idleTimeout = .seconds(5)
      case .keepalive: options.connection.keepalive = .init(interval: .seconds(5), timeout: .seconds(5))
      case .stall: options.connection.stallTimeout = .seconds(5)
      default: break
      }
      return options
    }

    func happen(_ near: SimulatedStream, _ ws: WebSocket) async throws {
      switch self {
      case .peerCloses: try await near.write(frame(0x88, [0x03, 0xE8]))
      case .peerClosesWithFailure: try await near.write(frame(0x88, [0x03, 0xF3]))
      case .peerResets: near.abort(ConnectionReset())
      case .peerEnds: try await near.close()
      case .protocolViolation: try await near.write(frame(0xC1, "x"))
      case .closeIsAnswered:
        ws.closeWhenFlushed { _ in }
        try await near.write(frame(0x88, [0x03, 0xE8]))
      case .closeIsNotAnswered: ws.closeWhenFlushed { _ in }
      case .abort: ws.abort(StreamError.aborted)
      case .cancel: ws.cancel(nil)
      case .idle, .keepalive, .stall: break
      }
    }
  }

  enum Wait: CaseIterable {
    case read, iterate, parts, pipe, ping, close, untilClosed, send, queuedSend, write, fragmentRoom, broadcast

    /// Whether it waits for room, of which there is none.
    var needsFullness: Bool {
      switch self {
      case .send, .queuedSend, .write, .fragmentRoom, .broadcast: true
      case .read, .iterate, .parts, .pipe, .ping, .close, .untilClosed: false
      }
    }

    func run(_ ws: WebSocket) async throws {
      switch self {
      case .read: _ = try await ws.read()
      case .iterate: for try await _ in ws {}
      case .parts: while try await ws.parts.read() != nil {}
      case .pipe: try await ws.pipe(Writable<Message> { _ in })
      case .ping: try await ws.ping()
      case .close: try await ws.close(.normal)
      case .untilClosed: await ws.waitUntilClosed()
      case .send:
        while true { try await ws.send(Message(kind: .binary, bytes: Bytes([UInt8](repeating: 1, count: 50_000)))) }
      case .queuedSend:
        try await withThrowingTaskGroup(of: Void.self) { group in
          for _ in 0..<20 {
            group.addTask {
              while true {
                try await ws.send(Message(kind: .binary, bytes: Bytes([UInt8](repeating: 1, count: 50_000))))
              }
            }
          }
          var ended = 0
          while let result = await group.nextResult() {
            if case .failure(let error) = result, !(error is WebSocketError), !(error is StreamError) { throw error }
            ended += 1
          }
          #expect(ended == 20)
        }
      case .write: while true { try await ws.write(.binary(Bytes([UInt8](repeating: 1, count: 50_000)))) }
      case .fragmentRoom:
        while true {
          try await ws.parts.write(
            MessagePart(kind: .binary, bytes: Bytes([UInt8](repeating: 1, count: 50_000)), isFinal: false))
        }
      case .broadcast:
        let room = WebSocketBroadcast(whenSlow: .wait)
        try await room.serve(ws) {
          while ws.readyState == .open { try await room.send(Bytes([UInt8](repeating: 1, count: 50_000))) }
        }
      }
    }
  }

  @Test("each end × each wait", arguments: End.allCases, Wait.allCases)
  func waits(end: End, wait: Wait) async throws {
    // Only who waits for room is held by a peer that takes nothing.
    if end == .stall && !wait.needsFullness { return }
    // To send is a sign of life of this side, and to close is an end of its own.
    if end == .idle && (wait == .close || wait.needsFullness) { return }
    // The time rests while the ping can't leave: then it is `stallTimeout` that ends it.
    if end == .keepalive && wait.needsFullness { return }
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let ws = try await SimulatedWire.open(near, far, options: end.options)
      let outcome = Mutex<Result<Void, any Error>?>(nil)
      let waiting = Task(executorPreference: loop) {
        do {
          try await wait.run(ws)
          outcome.withLock { $0 = .success(()) }
        } catch {
          outcome.withLock { $0 = .failure(error) }
        }
      }
      try await loop.sleep(for: .seconds(1))
      #expect(outcome.withLock { $0 } == nil, "it waits")
      try await end.happen(near, ws)
      // Longer than every time that an end may take.
      try await loop.sleep(for: .seconds(60))
      switch outcome.withLock({ $0 }) {
      case nil: Issue.record("it waits for ever")
      case .success: break
      case .failure(let error):
        #expect(error is WebSocketError || error is StreamError, "\(error)")
        expectReason(error, end, wait)
      }
      ws.abort(StreamError.aborted)
      waiting.cancel()
      near.abort(ConnectionReset())
      _ = await waiting.result
      try await loop.sleep(for: .seconds(60))
      #expect(loop.openTimers == 0)
    }
  }

  /// What a writer is told is what has happened.
  private func expectReason(_ error: any Error, _ end: End, _ wait: Wait) {
    guard wait == .send || wait == .queuedSend else { return }
    switch (end, error) {
    case (.peerCloses, WebSocketError.closed(.normal, _)),
      (.peerClosesWithFailure, WebSocketError.closed(.internalError, _)),
      (.stall, WebSocketError.stalled), (.peerEnds, WebSocketError.connectionLost), (.abort, StreamError.aborted),
      (.closeIsAnswered, StreamError.closed), (.closeIsNotAnswered, StreamError.closed), (.cancel, StreamError.closed),
      (.protocolViolation, StreamError.closed):
      break
    case (.peerResets, _): break
    default: Issue.record("\(end): \(error)")
    }
  }

  @Test(
    "what a peer's Close says is what a pipe into it ends with: nothing, or the failure",
    arguments: [1000, 1001, 4000, 1011, 1008])
  func pipeIntoClosed(code: Int) async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let ws = try await SimulatedWire.open(near, far)
      let piping = Task(executorPreference: loop) {
        try await Readable<Message> {
          try await loop.sleep(for: .milliseconds(10))
          return "tick"
        }.pipe(ws)
      }
      try await loop.sleep(for: .seconds(1))
      try await near.write(frame(0x88, [UInt8(code >> 8), UInt8(code & 0xFF)]))
      do {
        try await piping.value
        Issue.record("the pipe was cut off")
      } catch StreamError.closed {
        #expect(CloseCode(rawValue: UInt16(code)).isCleanEnd)
      } catch WebSocketError.closed(let theirs, _) {
        #expect(theirs.rawValue == code && !theirs.isCleanEnd)
      }
      ws.abort(StreamError.aborted)
    }
  }

  @Test("what was held for a reader does not come over what has failed meanwhile")
  func heldEnd() async throws {
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let ws = try await SimulatedWire.open(near, far)
      try await near.write(frame(0x81, "unread"))
      try await near.write(frame(0x88, [0x03, 0xE8]))
      try await loop.sleep(for: .seconds(1))
      ws.abort(TestFailure())
      try await loop.sleep(for: .seconds(30))
      #expect(try await ws.read()?.text == "unread")
      await #expect(throws: TestFailure.self) { try await ws.read() }
    }
  }

  @Test("a connection that is lost behind a Close that waits for the reader has ended by that")
  func heldCloseBeforeLoss() async throws {
    var options = WebSocketHandshakeOptions()
    options.connection.keepalive = .init(interval: .seconds(2), timeout: .seconds(2))
    let final = options
    try await SimulatedWire.run(delay: .milliseconds(1)) { near, far, loop in
      let ws = try await SimulatedWire.open(near, far, options: final)
      try await near.write(frame(0x81, "unread"))
      try await near.write(frame(0x88, [0x0F, 0xA0]))
      try await loop.sleep(for: .seconds(30))
      #expect(try await ws.read()?.text == "unread")
      #expect(try await ws.read() == nil)
      #expect(ws.closeStatus?.code.rawValue == 4000)
      ws.abort(StreamError.aborted)
    }
  }
}

struct TestFailure: Error {}
