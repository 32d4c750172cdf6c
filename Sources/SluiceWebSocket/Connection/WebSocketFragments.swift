import SluiceStreams
import SluiceWebSocketProtocol

/// A part of a message.
public struct Fragment: Sendable, Hashable {
  /// What the message is.
  public var kind: MessageKind
  public var bytes: Bytes
  /// Whether the message ends with this fragment.
  public var isFinal: Bool
  /// As a message's; that of the first fragment counts.
  public var isCompressible: Bool

  public init(kind: MessageKind, bytes: Bytes, isFinal: Bool, isCompressible: Bool = true) {
    self.kind = kind
    self.bytes = bytes
    self.isFinal = isFinal
    self.isCompressible = isCompressible
  }
}

extension Fragment: ByteCounted {
  public var byteCount: Int { bytes.count }
}

extension WebSocket {
  /// The connection as a stream of parts of messages, so that a message of any length passes in constant memory.
  ///
  /// Reading gives what has arrived *inside* a frame, without waiting for the frame's or the message's end; `maxMessageSize`
  /// does not apply. Text is checked as it arrives, and a fragment may end inside a character. Writing sends each fragment
  /// as a frame. A connection is read by messages or by fragments; change over only between two messages.
  ///
  /// ```swift
  /// for try await fragment in ws.fragments { try await file.write(fragment.bytes) }
  /// ```
  public var fragments: WebSocketFragments { WebSocketFragments(socket: self) }
}

/// See `WebSocket.fragments`.
public struct WebSocketFragments: PolledDuplexStream {
  public typealias Output = Fragment
  public typealias Input = Fragment
  let socket: WebSocket

  public var loop: any Loop { socket.loop }
  public var endsAsOne: Bool { true }

  public func poll() throws -> Polled<Fragment> { try socket.pollFragment() }
  public func attachReader(_ waker: any Waker) throws { try socket.attachReader(waker) }
  public func detachReader() { socket.detachReader() }
  public func detach(_ element: Fragment) -> Fragment {
    Fragment(kind: element.kind, bytes: element.bytes.compacted(), isFinal: element.isFinal)
  }
  public func cancel(_ reason: (any Error)?) { socket.cancel(reason) }

  public func hasRoom() throws -> Bool { try socket.hasRoom() }
  public func push(_ element: consuming Fragment) throws { try socket.push(element) }
  public var needsFlush: Bool { socket.needsFlush }
  public var queuedByteCount: Int { socket.queuedByteCount }
  public func flush() { socket.flush() }
  public func attachWriter(_ waker: any Waker) throws { try socket.attachWriter(waker) }
  public func detachWriter() { socket.detachWriter() }
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    socket.closeWhenFlushed(completion)
  }
  public func abort(_ reason: any Error) { socket.abort(reason) }
}

extension WebSocket {
  func pollFragment() throws -> Polled<Fragment> {
    if let message = inbox.popFirst() {
      inboxBytes -= message.bytes.count + 1
      return .element(Fragment(message))
    }
    // Other extensions than compression know whole messages only.
    if case .extensions = coding {
      switch try poll() {
      case .element(let message): return .element(Fragment(message))
      case .pending: return .pending
      case .end: return .end
      }
    }
    while true {
      switch readState {
      case .open: break
      case .closed: return .end
      case .failed(let error): throw error
      }
      if let piece = try nextPiece() {
        if piece.bytes.isEmpty && !piece.isFinal { continue }
        return .element(Fragment(kind: piece.kind, bytes: piece.bytes, isFinal: piece.isFinal))
      }
      guard case .open = readState else { continue }
      guard receive() else { return .pending }
    }
  }

  /// Sends a fragment as a frame of its own: the message's kind in the first, continuations behind it (RFC 6455 §5.4).
  func push(_ fragment: consuming Fragment) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    noteSent(fragment.bytes.count, endsMessage: fragment.isFinal)
    switch coding {
    case .plain: try appendFragment(fragment.kind, isFinal: fragment.isFinal, fragment.bytes)
    case .deflate(let session):
      let compressed = session.compress(
        fragment: fragment.bytes, isCompressible: fragment.isCompressible, isFinal: fragment.isFinal)
      try appendFragment(
        fragment.kind, isFinal: fragment.isFinal, isCompressed: compressed != nil, compressed ?? fragment.bytes)
    case .extensions(let pipeline): pipeline.send(fragment, for: self)
    case .hixie(let framing): try append(fragment.kind, fragment.bytes, isFinal: fragment.isFinal, framing)
    }
  }

  private func appendFragment(
    _ kind: MessageKind, isFinal: Bool, isCompressed: Bool = false, _ payload: Bytes
  ) throws {
    let isFirst = sendingFragment == nil
    sendingFragment = isFinal ? nil : kind
    // RFC 7692 §6: only the first frame says that the message is compressed.
    try appendFrame(
      isFirst ? kind.opcode : .continuation, isFinal: isFinal, reserved: isFirst && isCompressed ? .rsv1 : [], payload)
  }
}

extension Fragment {
  fileprivate init(_ message: Message) {
    self.init(kind: message.kind, bytes: message.bytes, isFinal: true)
  }
}
