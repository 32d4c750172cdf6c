import Sluice
import SluiceIO
import SluiceStreams
import SluiceTesting
import Synchronization

/// Stands between a client and a server and passes their bytes on, each connection with a trouble of its own: it slices, delays, throttles, stalls, cuts, ends,
/// forgets and corrupts. Made with the library that it tests.
final class FaultyRelay: Sendable {
  struct Trouble: Sendable {
    enum Kind: String, CaseIterable, Sendable {
      case none, slices, delays, throttles, stalls
      /// Both connections are reset.
      case cuts
      /// Both end with FIN, without what their protocols say before it.
      case ends
      /// Both stay, and nothing comes any more.
      case forgets
      /// A bit is another one: on secure connections only, where somebody notices.
      case corrupts
    }
    var kind: Kind
    /// Where it happens, in bytes of both directions.
    var position: Int

    /// Whether the connection can't end well.
    var isFatal: Bool {
      switch kind {
      case .none, .slices, .delays, .throttles, .stalls: false
      case .cuts, .ends, .forgets, .corrupts: true
      }
    }
  }

  private struct State {
    var random: SeededGenerator
    var accepted = 0
    var open = 0
    /// Connections that can't have ended well, by what happened to them.
    var fatal: [Trouble.Kind: Int] = [:]
    /// The same by the client's address.
    var spoilt: [String: Int] = [:]
    var bytes = 0
  }
  private let state: Mutex<State>

  init(seed: UInt64) { state = Mutex(State(random: SeededGenerator(seed: seed))) }

  func run(plain: Int, secure: Int) async throws {
    let listeners = [
      (try await TCP.listen("127.0.0.1", port: 0, backlog: 4096), plain, false),
      (try await TCP.listen("127.0.0.1", port: 0, backlog: 4096), secure, true),
    ]
    say("ports \(listeners[0].0.port) \(listeners[1].0.port)")
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (listener, target, isSecure) in listeners {
        group.addTask {
          try await withThrowingDiscardingTaskGroup { connections in
            for try await socket in listener {
              connections.addTask { await self.pass(socket, to: target, isSecure: isSecure) }
            }
          }
        }
      }
      group.addTask { try await self.report() }
      try await group.next()
      group.cancelAll()
    }
  }

  /// Says whose connections it has spoilt, and how many of each.
  func sayWhatWasSpoilt() {
    for (address, count) in state.withLock({ $0.spoilt }) { say("SPOILT \(address) \(count)") }
  }

  private func didSpoil(_ kind: Trouble.Kind, of client: String) {
    state.withLock { state in
      state.fatal[kind, default: 0] += 1
      state.spoilt[client, default: 0] += 1
    }
  }

  private func report() async throws {
    while true {
      try await Task.sleep(for: .seconds(5))
      let state = state.withLock { $0 }
      let fatal = state.fatal.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.key) \($0.value)" }
      say(
        "relay accepted \(state.accepted) open \(state.open) bytes \(state.bytes) fatal \(state.fatal.values.reduce(0, +)) (\(fatal.joined(separator: ", ")))"
      )
    }
  }

  private func trouble(isSecure: Bool) -> Trouble {
    state.withLock { state in
      state.accepted += 1
      state.open += 1
      let position = Int.random(in: 0..<(1 << Int.random(in: 8..<20, using: &state.random)), using: &state.random)
      // Half of all have none.
      var kinds = Trouble.Kind.allCases + Array(repeating: .none, count: 8)
      if !isSecure { kinds.removeAll { $0 == .corrupts } }
      return Trouble(kind: kinds[Int.random(in: kinds.indices, using: &state.random)], position: position)
    }
  }

  private func pass(_ near: SocketStream, to port: Int, isSecure: Bool) async {
    let trouble = trouble(isSecure: isSecure)
    // A connection that is gone has none.
    let client = near.peerAddress?.ipAddress.description ?? "unknown"
    defer { state.withLock { $0.open -= 1 } }
    do {
      let far = try await TCP.connect("127.0.0.1", port: port, timeout: patience)
      let passed = Passed(trouble)
      async let back: Void = move(from: far, to: near, passed)
      await move(from: near, to: far, passed)
      await back
      for socket in [near, far] {
        socket.cancel(nil)
        if passed.hasFailed { socket.abort(StreamError.aborted) }
      }
      if passed.hasStruck { didSpoil(trouble.kind, of: client) }
    } catch {
      didSpoil(.cuts, of: client)
      near.abort(error)
    }
  }

  /// How far a connection has come.
  private final class Passed: Sendable {
    let trouble: Trouble
    private let state = Mutex((bytes: 0, hasStruck: false, hasFailed: false))

    init(_ trouble: Trouble) { self.trouble = trouble }

    /// - Returns: how many of these bytes stand before the trouble; nil if it is not among them.
    func take(_ count: Int) -> Int? {
      state.withLock { state in
        let before = trouble.position - state.bytes
        state.bytes += count
        guard before < count, !state.hasStruck, trouble.isFatal || trouble.kind == .stalls else { return nil }
        state.hasStruck = true
        return max(before, 0)
      }
    }

    func fail() { state.withLock { $0.hasFailed = true } }
    var hasFailed: Bool { state.withLock { $0.hasFailed } }
    /// Whether something fatal has happened.
    var hasStruck: Bool { trouble.isFatal && state.withLock { $0.hasStruck } }
    var isForgotten: Bool { trouble.kind == .forgets && hasStruck }
  }

  private func move(from source: SocketStream, to sink: SocketStream, _ passed: Passed) async {
    do {
      while let chunk = try await source.read() {
        state.withLock { $0.bytes += chunk.count }
        // What is forgotten is read, so that its end is seen.
        if passed.isForgotten { continue }
        guard let position = passed.take(chunk.count) else {
          try await write(chunk, to: sink, passed.trouble.kind)
          continue
        }
        try await strike(chunk, at: position, source, sink, passed)
        if passed.trouble.kind == .cuts || passed.trouble.kind == .ends { return }
      }
      try await sink.close()
    } catch {
      passed.fail()
      for socket in [source, sink] { socket.abort(error) }
    }
  }

  private func write(_ chunk: Bytes, to sink: SocketStream, _ kind: Trouble.Kind) async throws {
    switch kind {
    case .delays:
      try await sink.loop.sleep(for: .milliseconds(Int.random(in: 0...100)))
      try await sink.write(chunk)
    case .slices: try await write(chunk, to: sink, inPiecesOf: 1 + chunk.count / 8, every: .zero)
    case .throttles: try await write(chunk, to: sink, inPiecesOf: 4096, every: .milliseconds(20))
    case .none, .stalls, .cuts, .ends, .forgets, .corrupts: try await sink.write(chunk)
    }
  }

  private func write(
    _ chunk: Bytes, to sink: SocketStream, inPiecesOf size: Int, every pause: Duration
  ) async throws {
    var rest = chunk
    while !rest.isEmpty {
      let piece = rest.prefix(size)
      rest = rest.dropFirst(piece.count)
      try await sink.write(piece)
      if pause > .zero { try await sink.loop.sleep(for: pause) }
      // A system call, and a packet, each.
      await Task.yield()
    }
  }

  private func strike(
    _ chunk: Bytes, at position: Int, _ source: SocketStream, _ sink: SocketStream, _ passed: Passed
  ) async throws {
    switch passed.trouble.kind {
    case .stalls:
      try await sink.loop.sleep(for: .seconds(4))
      try await sink.write(chunk)
    case .corrupts:
      var bytes = Array(chunk)
      bytes[position] ^= 0x20
      try await sink.write(Bytes(bytes))
    case .forgets: try await sink.write(chunk.prefix(position))
    case .ends:
      try await sink.write(chunk.prefix(position))
      // In both directions; what still comes is for nobody.
      for socket in [source, sink] {
        try await socket.close()
        socket.cancel(nil)
      }
    case .cuts:
      passed.fail()
      for socket in [source, sink] { socket.abort(StreamError.aborted) }
    case .none, .slices, .delays, .throttles: try await sink.write(chunk)
    }
  }
}
