import DequeModule
import Sluice
import SluiceIO
import SluiceStreams
import SluiceWebSocketProtocol
import Synchronization

/// Datagrams as messages: text where text is wanted and they are UTF-8, otherwise binary.
struct DatagramMessages: Sendable {
  let kind: MessageKind

  func message(_ bytes: Bytes) -> Message {
    Message(kind: kind == .text && UTF8Validator.isValid(bytes.span) ? .text : .binary, bytes: bytes)
  }
}

/// A socket that is closed when nobody has it any more.
final class OwnedDatagramSocket: Sendable {
  let socket: DatagramSocket

  init(_ socket: DatagramSocket) { self.socket = socket }

  deinit { socket.close() }
}

/// The datagrams of one peer. They have no end of their own: once nothing more is sent, this ends when nothing has come for a while.
final class DatagramStream: DuplexStream, Sendable {
  typealias Output = Message
  typealias Input = Message

  private let socket: DatagramSocket
  private let messages: DatagramMessages
  private let patience: Duration
  private let silence = Silence()
  private let ending = Mutex<Task<Void, any Error>?>(nil)

  /// - Parameter patience: How long it goes on in silence, when nothing more is sent.
  init(_ socket: DatagramSocket, _ messages: DatagramMessages, patience: Duration) {
    self.socket = socket
    self.messages = messages
    self.patience = patience
  }

  deinit {
    end()
    socket.close()
  }

  func read() async throws -> Message? {
    guard let received = try await socket.receive() else { return nil }
    silence.end()
    return messages.message(received.bytes)
  }

  func cancel(_ reason: (any Error)?) { end() }
  func write(_ message: Message) async throws { try await socket.send(message.bytes) }

  func close() async throws {
    silence.end()
    let watch = Task { [silence, patience, socket] in
      try await silence.wait(for: patience)
      socket.cancel()
    }
    ending.withLock { $0 = watch }
  }

  func close(after failure: any Error) async throws { try await close() }
  func abort(_ reason: any Error) { end() }

  private func end() {
    ending.withLock { $0.take() }?.cancel()
    socket.cancel()
  }
}

/// A connection of whole messages (SOCK_SEQPACKET). Each direction has an end, as those of TCP have.
final class PacketStream: DuplexStream, Sendable {
  typealias Output = Message
  typealias Input = Message

  private let socket: DatagramSocket
  private let messages: DatagramMessages

  init(_ socket: DatagramSocket, _ messages: DatagramMessages) {
    self.socket = socket
    self.messages = messages
  }

  deinit { socket.close() }

  func read() async throws -> Message? { try await socket.receive().map { messages.message($0.bytes) } }
  func cancel(_ reason: (any Error)?) { socket.cancel() }
  func write(_ message: Message) async throws { try await socket.send(message.bytes) }
  func close() async throws { socket.endSending() }
  func close(after failure: any Error) async throws { socket.abort() }
  func abort(_ reason: any Error) { socket.abort() }
}

/// Whoever sends to a socket of ours, each as a stream of its own datagrams. Those who have no address, as a Unix socket without a name, are one: they can be heard,
/// and can't be answered.
final class DatagramSessions: ReadableStream, Sendable {
  typealias Output = DatagramSession

  /// As long as a firewall remembers a UDP flow, or longer.
  static let usualIdleTimeout = Duration.seconds(60)
  /// Whoever can send can name any number of addresses as its own, and each has a target.
  static let usualMaxCount = 1000

  private let owned: OwnedDatagramSocket
  private let messages: DatagramMessages
  private let idleTimeout: Duration
  private let maxCount: Int
  private let onDrop: @Sendable () -> Void
  private let sessions = Mutex<[DatagramSocket.Peer: DatagramSession]>([:])

  /// - Parameters:
  ///   - idleTimeout: The silence, in both directions, after which a peer counts as gone.
  ///   - maxCount: Peers at once. What others send meanwhile is dropped.
  ///   - onDrop: Is called for each datagram that was dropped.
  init(
    _ socket: DatagramSocket, _ messages: DatagramMessages, idleTimeout: Duration, maxCount: Int,
    onDrop: @escaping @Sendable () -> Void
  ) {
    owned = OwnedDatagramSocket(socket)
    self.onDrop = onDrop
    self.messages = messages
    self.idleTimeout = idleTimeout
    self.maxCount = maxCount
  }

  /// The next peer that is new.
  func read() async throws -> DatagramSession? {
    while true {
      let received: (bytes: Bytes, peer: DatagramSocket.Peer)?
      do { received = try await owned.socket.receive() } catch let error as IOError where error.code == "ECONNREFUSED" {
        // One that was answered has gone.
        continue
      } catch let error as IOError where error.code == "EMSGSIZE" {
        onDrop()
        continue
      }
      guard let received else {
        for session in sessions.withLock({ Array($0.values) }) { session.end() }
        return nil
      }
      let message = messages.message(received.bytes)
      if let known = sessions.withLock({ $0[received.peer] }) {
        if !known.take(message) { onDrop() }
        continue
      }
      if sessions.withLock({ $0.count >= maxCount }) {
        onDrop()
        continue
      }
      let session = DatagramSession(received.peer, owned, idleTimeout: idleTimeout) { [weak self] peer in
        self?.sessions.withLock { $0[peer] = nil }
      }
      _ = session.take(message)
      sessions.withLock { $0[received.peer] = session }
      return session
    }
  }

  func cancel(_ reason: (any Error)?) { owned.socket.cancel() }
}

/// The datagrams of one peer of several. What comes faster than it is read is dropped, as the system drops it.
final class DatagramSession: DuplexStream, Sendable {
  typealias Output = Message
  typealias Input = Message

  let peer: DatagramSocket.Peer
  private let owned: OwnedDatagramSocket
  private let silence = Silence()
  private let onEnd: @Sendable (DatagramSocket.Peer) -> Void
  private struct State {
    var messages = Deque<Message>()
    var byteCount = 0
    var hasEnded = false
    var waiting: CheckedContinuation<Void, Never>?
    var watch: Task<Void, any Error>?
  }
  private let state = Mutex(State())

  /// What waits to be read, at most.
  private static let highWatermark = 256 << 10

  init(
    _ peer: DatagramSocket.Peer, _ owned: OwnedDatagramSocket, idleTimeout: Duration,
    onEnd: @escaping @Sendable (DatagramSocket.Peer) -> Void
  ) {
    self.peer = peer
    self.owned = owned
    self.onEnd = onEnd
    let watch = Task { [silence, weak self] in
      try await silence.wait(for: idleTimeout)
      self?.end()
    }
    state.withLock { $0.watch = watch }
  }

  /// - Returns: false if there was no room for it.
  fileprivate func take(_ message: Message) -> Bool {
    silence.end()
    return change { state in
      guard !state.hasEnded, state.byteCount < Self.highWatermark else { return false }
      state.messages.append(message)
      // One without bytes takes a place too.
      state.byteCount += message.bytes.count + 64
      return true
    }
  }

  /// Once: its peer may have another session afterwards.
  func end() {
    let (isFirst, watch) = state.withLock { state in
      defer { state.hasEnded = true }
      return (!state.hasEnded, state.watch.take())
    }
    guard isFirst else { return }
    watch?.cancel()
    change { _ in }
    onEnd(peer)
  }

  private func change<Result: Sendable>(_ change: (inout State) -> Result) -> Result {
    let (result, waiting) = state.withLock { state in (change(&state), state.waiting.take()) }
    waiting?.resume()
    return result
  }

  func read() async throws -> Message? {
    while true {
      let (message, hasEnded): (Message?, Bool) = state.withLock { state in
        guard let first = state.messages.popFirst() else { return (nil, state.hasEnded) }
        state.byteCount -= first.bytes.count + 64
        return (first, false)
      }
      if let message { return message }
      if hasEnded { return nil }
      try Task.checkCancellation()
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let mayWait = state.withLock { state in
            if Task.isCancelled || state.hasEnded || !state.messages.isEmpty { return false }
            state.waiting = continuation
            return true
          }
          if !mayWait { continuation.resume() }
        }
      } onCancel: {
        change { _ in }
      }
    }
  }

  func cancel(_ reason: (any Error)?) { end() }

  func write(_ message: Message) async throws {
    guard peer.hasAddress else { return }
    silence.end()
    do { try await send(message) } catch let error as IOError where error.code == "ECONNREFUSED" {
      // Of UDP, it is about one that was sent before, to anybody.
      try await send(message)
    }
  }

  /// A peer that takes nothing is waited for as long as it counts as there.
  private func send(_ message: Message) async throws {
    try await owned.socket.send(message.bytes, to: peer) { [weak self] in
      self?.state.withLock { !$0.hasEnded } ?? false
    }
  }

  /// It may still say something.
  func close() async throws {}
  func close(after failure: any Error) async throws { end() }
  func abort(_ reason: any Error) { end() }
}
