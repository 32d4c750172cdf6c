import Sluice
import SluiceStreams
import SluiceTesting
import Synchronization
import SystemPackage

/// Clients that come, say something, hear it again, and go, over and over.
///
/// - What comes back is what was sent, in order.
/// - A connection that ends well has brought all of it back.
///
/// Each comes from an address of its own, by which the relay says whose connections it has spoilt. No time limit is so short that a busy machine alone
/// makes a connection fail.
final class ChurningClients: Sendable {
  private struct State {
    var opened = 0
    var open = 0
    var endedWell = 0
    var failed: [String: Int] = [:]
    /// What each client's failed connections failed with.
    var failures: [Int: [String]] = [:]
    var messages = 0
    var violations: [String] = []
  }
  private let state = Mutex(State())
  private let urls: (plain: String, secure: String)
  private let count: Int
  private let time: Duration
  private let seed: UInt64
  private let tls: TLSClientContext
  private let start = ContinuousClock.now

  init(plain: Int, secure: Int, count: Int, time: Duration, seed: UInt64, _ certificates: FilePath) throws {
    urls = ("ws://127.0.0.1:\(plain)/", "wss://127.0.0.1:\(secure)/")
    self.count = count
    self.time = time
    self.seed = seed
    var options = TLSClientOptions()
    options.trust = .file(certificates.appending("root.pem"))
    options.handshakeTimeout = patience
    tls = try TLSClientContext(options)
  }

  private var isOver: Bool { ContinuousClock.now - start > time }

  func run() async throws {
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<count { group.addTask { await self.live(number) } }
      let reporting = Task {
        while true {
          try await Task.sleep(for: .seconds(5))
          self.report()
        }
      }
      await group.waitForAll()
      reporting.cancel()
    }
    report()
    let (violations, failures) = state.withLock { ($0.violations, $0.failures) }
    for violation in violations.prefix(20) { say("VIOLATION \(violation)") }
    for (number, kinds) in failures { for kind in kinds { say("FAILURE \(Self.address(of: number)) \(kind)") } }
    say("clients done")
  }

  private func report() {
    let state = state.withLock { $0 }
    let failed = state.failed.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    say(
      "clients opened \(state.opened) open \(state.open) well \(state.endedWell) failed \(state.failed.values.reduce(0, +)) messages \(state.messages) violations \(state.violations.count) (\(failed.joined(separator: ", ")))"
    )
  }

  private func live(_ number: Int) async {
    var random = SeededGenerator(seed: seed &* 1_000_003 &+ UInt64(number))
    // They come in the first half minute, not all at once.
    try? await Task.sleep(for: .milliseconds(Int.random(in: 0..<(count * 6 + 1), using: &random)))
    while !isOver {
      var isOpen = false
      do {
        let ws = try await open(number)
        isOpen = true
        state.withLock { state in
          state.opened += 1
          state.open += 1
        }
        try await talk(ws, number, &random)
        state.withLock { $0.endedWell += 1 }
      } catch {
        let kind =
          (isOpen ? "open: " : "opening: ")
          + "\(type(of: error)) \(error)".filter { !$0.isNumber && $0 != "," }.prefix(120)
        state.withLock { state in
          state.failed[kind, default: 0] += 1
          state.failures[number, default: []].append(kind)
        }
      }
      if isOpen { state.withLock { $0.open -= 1 } }
      try? await Task.sleep(for: .milliseconds(Int.random(in: 0..<2000, using: &random)))
    }
  }

  private func open(_ number: Int) async throws -> WebSocket {
    var options = WebSocketClientOptions()
    options.connect.tls = tls
    options.connect.timeout = patience
    options.connect.tcp.localAddress = Self.address(of: number)
    options.request.handshakeTimeout = patience
    options.connection.closeTimeout = patience
    options.connection.keepalive = .init(interval: .seconds(15), timeout: patience)
    if number % 4 == 0 { options.extensions = [PermessageDeflate()] }
    return try await WebSocket.connect(number % 10 == 0 ? urls.secure : urls.plain, options: options)
  }

  private func talk(_ ws: WebSocket, _ number: Int, _ random: inout SeededGenerator) async throws {
    var sent = 0
    for _ in 0..<Int.random(in: 1...40, using: &random) {
      let burst = Int.random(in: 1...4, using: &random)
      let size = 1 << Int.random(in: 0...12, using: &random)
      for index in 0..<burst { try await ws.send(Self.text(sent + index, size, number)) }
      for index in 0..<burst {
        guard let message = try await ws.read() else {
          return violate("a good end behind \(sent + index) of \(sent + burst) echoes: \(ws.closeStatus as Any)")
        }
        if message.text != Self.text(sent + index, size, number) { return violate("another echo than what was sent") }
      }
      sent += burst
      state.withLock { $0.messages += burst }
      if isOver { break }
      try await Task.sleep(for: .milliseconds(Int.random(in: 0..<4000, using: &random)))
    }
    try await ws.close()
    if try await ws.read() != nil { violate("something that nobody sent") }
  }

  /// Of the loopback network.
  private static func address(of number: Int) -> String { "127.1.\(number >> 8).\(number & 255)" }

  private func violate(_ what: String) { state.withLock { $0.violations.append(what) } }

  private static func text(_ index: Int, _ size: Int, _ number: Int) -> String {
    "\(number) \(index) " + String(repeating: "\(UnicodeScalar(UInt8(97 + (index + number) % 26)))", count: size)
  }
}
