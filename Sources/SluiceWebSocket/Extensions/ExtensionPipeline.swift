import DequeModule
import SluiceStreams
import SluiceWebSocketProtocol

/// Runs messages through the extensions of a connection, each direction in order (RFC 6455 §9.1: the first extension that was
/// agreed upon is the first to see what is sent, and the last to see what is received).
///
/// What an extension takes its time for holds what is behind it, a Close or an error too. Both queues count for the write
/// watermark, so that a slow extension holds the peer and the sender.
final class ExtensionPipeline: @unchecked Sendable {  // used on its connection's loop only
  private let sessions: [any ExtensionSession]
  private let watermark: Int
  private let loop: any Loop

  private var arriving = Deque<Step>()
  private var leaving = Deque<Step>()
  private var arrivingBytes = 0
  private var leavingBytes = 0
  private var isDecoding = false
  private var isEncoding = false
  /// What was decoded and is not asked for yet, and what is to happen behind it.
  private var decoded = Deque<Decoded>()
  private var isClosed = false
  /// Whether something that was to be sent is lost: the Close that comes behind it says so.
  private(set) var hasLostMessages = false

  /// The parts of a message that are sent one by one.
  private var gathered = BytesBuilder()

  private enum Step {
    case message(ExtensionMessage)
    /// What is to happen when all before it is done.
    case then(() -> Void)
  }

  private enum Decoded {
    case message(Message)
    case then(() -> Void)
  }

  init(_ sessions: [any ExtensionSession], watermark: Int, on loop: any Loop) {
    self.sessions = sessions
    self.watermark = watermark
    self.loop = loop
  }

  // MARK: receiving

  /// Whether more is to be read from the peer.
  var wantsMore: Bool { arrivingBytes < watermark }
  /// Whether messages of the peer are under way that came before whatever comes now.
  var isReceiving: Bool { isDecoding || !decoded.isEmpty }

  /// The next message, once a reader asks for it; a Close or an error takes its effect when the reader has come to it.
  func popDecoded() -> Message? {
    while let next = decoded.popFirst() {
      switch next {
      case .then(let work): work()
      case .message(let message):
        arrivingBytes -= heldCost(ofByteCount: message.bytes.count)
        return message
      }
    }
    return nil
  }

  func receive(_ message: ExtensionMessage, for socket: WebSocket) {
    arrivingBytes += heldCost(ofByteCount: message.bytes.count)
    arriving.append(.message(message))
    decodeAll(for: socket)
  }

  /// Does something once all that was received before is decoded and was asked for.
  func afterReceived(_ work: @escaping () -> Void) {
    if isDecoding {
      arriving.append(.then(work))
    } else if decoded.isEmpty {
      work()
    } else {
      decoded.append(.then(work))
    }
  }

  private func decodeAll(for socket: WebSocket) {
    if isDecoding { return }
    isDecoding = true
    _ = Task(executorPreference: loop) {
      while let step = self.arriving.popFirst() {
        switch step {
        case .then(let work): self.decoded.append(.then(work))
        case .message(let message): await self.decode(message, for: socket)
        }
      }
      self.isDecoding = false
      self.closeIfDone()
      socket.extensionsDidAdvance()
    }
  }

  private func decode(_ message: ExtensionMessage, for socket: WebSocket) async {
    arrivingBytes -= heldCost(ofByteCount: message.bytes.count)
    do {
      var message = message
      for session in sessions.reversed() { message = try await session.decode(message) }
      guard message.reserved.isEmpty else {
        throw WebSocketProtocolError.reservedBits(message.reserved, message.kind.opcode)
      }
      guard message.kind == .binary || UTF8Validator.isValid(message.bytes.span) else {
        throw WebSocketProtocolError.invalidText
      }
      arrivingBytes += heldCost(ofByteCount: message.bytes.count)
      decoded.append(.message(Message(kind: message.kind, bytes: message.bytes)))
      socket.extensionsDidAdvance()
    } catch {
      arriving.removeAll()
      decoded.append(.then { socket.extensionFailed(error) })
    }
  }

  // MARK: sending

  var hasRoom: Bool { leavingBytes < watermark }
  var queuedByteCount: Int { leavingBytes }

  func send(_ message: Message, for socket: WebSocket) {
    leavingBytes += heldCost(ofByteCount: message.bytes.count)
    leaving.append(
      .message(
        ExtensionMessage(kind: message.kind, bytes: message.bytes.compacted(), isCompressible: message.isCompressible)))
    encodeAll(for: socket)
  }

  /// A message in parts becomes whole here.
  func send(_ part: MessagePart, for socket: WebSocket) {
    gathered.append(part.bytes)
    if part.isFinal {
      send(Message(kind: part.kind, bytes: gathered.take(), isCompressible: part.isCompressible), for: socket)
    }
  }

  /// Does something once all that was to be sent before is encoded.
  func afterSent(_ work: @escaping () -> Void) {
    if isEncoding { leaving.append(.then(work)) } else { work() }
  }

  private func encodeAll(for socket: WebSocket) {
    if isEncoding { return }
    isEncoding = true
    _ = Task(executorPreference: loop) {
      while let step = self.leaving.popFirst() {
        switch step {
        case .then(let work): work()
        case .message(let message): await self.encode(message, for: socket)
        }
      }
      self.isEncoding = false
      self.closeIfDone()
    }
  }

  private func encode(_ message: ExtensionMessage, for socket: WebSocket) async {
    let count = heldCost(ofByteCount: message.bytes.count)
    do {
      var message = message
      for session in sessions { message = try await session.encode(message) }
      leavingBytes -= count
      socket.sendEncoded(message)
    } catch {
      leavingBytes -= count
      hasLostMessages = true
      // What waits to be sent is not; a Close that waits for it is.
      leaving.removeAll { if case .message = $0 { true } else { false } }
      socket.encodingFailed(error)
    }
  }

  // MARK: end

  /// The connection is given up: messages that were received are still decoded, then the sessions are closed.
  func close() {
    isClosed = true
    leaving.removeAll()
    closeIfDone()
  }

  private func closeIfDone() {
    guard isClosed, !isDecoding, !isEncoding else { return }
    isClosed = false
    for session in sessions { session.close() }
  }
}
