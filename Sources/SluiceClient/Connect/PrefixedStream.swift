import SluiceStreams

/// A stream behind bytes of it that were read already: what an origin sent before its proxy's answer was looked at.
final class PrefixedStream: PolledDuplexStream, @unchecked Sendable {  // `prefix` is touched on the loop only
  typealias Output = Bytes
  typealias Input = Bytes

  private let base: Connect.ByteStream
  private var prefix: Bytes
  let loop: any Loop

  /// - Returns: the stream itself where there is nothing before it.
  static func stream(_ base: Connect.ByteStream, behind prefix: Bytes) -> Connect.ByteStream {
    prefix.isEmpty ? base : PrefixedStream(base, behind: prefix)
  }

  private init(_ base: Connect.ByteStream, behind prefix: Bytes) {
    self.base = base
    self.prefix = prefix.compacted()
    loop = base.loop
  }

  // MARK: reading

  func poll() throws -> Polled<Bytes> {
    if prefix.isEmpty { return try base.poll() }
    defer { prefix = Bytes() }
    return .element(prefix)
  }

  func poll(lendingTo use: (Span<UInt8>) -> Int) throws -> PolledLending<Bytes> {
    prefix.isEmpty ? try base.poll(lendingTo: use) : PolledLending(try poll())
  }

  var isDry: Bool { prefix.isEmpty && base.isDry }
  func attachReader(_ waker: any Waker) throws { try base.attachReader(waker) }
  var hasReader: Bool { base.hasReader }
  func detachReader() { base.detachReader() }

  func cancel(_ reason: (any Error)?) {
    loop.perform {
      self.prefix = Bytes()
      self.base.cancel(reason)
    }
  }

  // MARK: writing

  func hasRoom() throws -> Bool { try base.hasRoom() }
  func push(_ bytes: consuming Bytes) throws { try base.push(bytes) }
  func sendAtOnce(_ bytes: Span<UInt8>) -> Int { base.sendAtOnce(bytes) }
  var queuedByteCount: Int { base.queuedByteCount }
  var deliveredByteCount: Int? { base.deliveredByteCount }
  func flush() { base.flush() }
  func attachWriter(_ waker: any Waker) throws { try base.attachWriter(waker) }
  func detachWriter() { base.detachWriter() }

  func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) { base.closeWhenFlushed(completion) }

  func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    base.closeWhenFlushed(after: failure, completion)
  }

  func abort(_ reason: any Error) {
    loop.perform {
      self.prefix = Bytes()
      self.base.abort(reason)
    }
  }
}

extension PrefixedStream: QueueLimiting {
  func limitQueue(to count: Int) -> Int? { (base as? any QueueLimiting)?.limitQueue(to: count) }
}

extension PrefixedStream: SentByteCounting {
  var sentByteCount: Int? { (base as? any SentByteCounting)?.sentByteCount }
}

extension PrefixedStream: PeerEndWatching {
  var hasPeerEnded: Bool { (base as? any PeerEndWatching)?.hasPeerEnded ?? false }
}

extension PrefixedStream: TransportDescribing {
  private var described: (any TransportDescribing)? { base as? any TransportDescribing }
  var peerAddress: SocketAddress? { described?.peerAddress }
  var localAddress: SocketAddress? { described?.localAddress }
  var isSecure: Bool { described?.isSecure ?? false }
  var tlsInfo: TLSInfo? { described?.tlsInfo }
}
