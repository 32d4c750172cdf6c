import SluiceStreams

// The quickest way of a short message through a server: a frame that is there as a whole becomes a message, and a message a frame, with nothing asked
// or written that others need. What is not so goes the general way, which finds the same input. A message of 16 bytes, one of many, takes
// 1,180 instructions by that way from `onMessage` to `trySend`, and 495 by this one.

/// Gives a whole short message in memory of its loop's.
@safe private struct ShortMessageSink: ~Copyable, MessageSink {
  private let scratch: Unmanaged<ScratchBuffers>
  private var memory = BytesBuilder()

  @inline(__always)
  init(_ scratch: Unmanaged<ScratchBuffers>) { unsafe self.scratch = scratch }

  static var takesParts: Bool { false }
  var wholeFrameLimit: Int { SmallBuffer.capacity }
  var hasRoom: Bool { true }

  @inline(__always)
  mutating func begin(_ part: DataPart, canSlice: Bool) throws(WebSocketProtocolError) -> Void? {
    unsafe scratch._withUnsafeGuaranteedRef { memory = $0.takeForMessage(part.count) }
  }

  @inline(__always)
  mutating func withMemory(_ body: (inout BytesBuilder) -> Bool) -> Bool { body(&memory) }

  @inline(__always)
  mutating func end(_ part: DataPart, _ mark: Void) -> Message? { end(part, slice: memory.take()) }

  @inline(__always)
  mutating func end(_ part: DataPart, slice: Bytes) -> Message? { Message(kind: part.kind, bytes: slice) }

  mutating func drop(_ mark: Void) { memory = BytesBuilder() }
}

extension FrameDecoder {
  /// Takes a masked message of at most 64 bytes, in a single frame that is there as a whole, from the front of the input.
  /// - Parameter messages: Where the messages go that come in parts.
  /// - Returns: nil for everything else, which is still to be decoded.
  @inline(__always)
  mutating func nextShortMessage(in input: inout Bytes, assembling messages: borrowing MessageAssembler) -> Message? {
    guard parser.role == .server, isBetweenMessages, let scratch = unsafe messages.scratch,
      let part = DataPart(
        wholeFrameOf: input.span, at: 0, isMasked: true, limit: min(SmallBuffer.capacity, messages.maxMessageSize))
    else { return nil }
    var sink = unsafe ShortMessageSink(scratch)
    do {
      let message = try put(part, of: input.span, nil, into: &sink)
      // An empty slice would hold its whole buffer.
      if part.payload.upperBound == input.count { input = Bytes() } else { input.trimFirst(part.payload.upperBound) }
      return message
    } catch {
      // Not UTF-8, which is found anew.
      forgetText()
      return nil
    }
  }
}

extension BytesBuilder {
  /// Appends the frame of a message of at most 125 bytes, unmasked, if there is memory for it.
  /// - Returns: whether that was done.
  @inlinable
  @inline(__always)
  package mutating func append(short message: Message) -> Bool {
    let length = message.bytes.count
    guard length <= 125, capacity &- count >= length &+ 2 else { return false }
    unsafe appendUninitialized(length &+ 2) { target in
      unsafe target[0] = 0x80 | message.kind.opcode.rawValue
      unsafe target[1] = UInt8(truncatingIfNeeded: length)
      unsafe message.bytes.withUnsafeBytes { payload in
        guard let base = payload.baseAddress else { return }
        unsafe (target + 2).copyShort(base.assumingMemoryBound(to: UInt8.self), length)
      }
    }
    return true
  }
}

extension UnsafeMutablePointer<UInt8> {
  /// Copies bytes that don't overlap with these; 8 to 32 of them without a call, which costs more than that.
  @inlinable
  @inline(__always)
  func copyShort(_ source: UnsafePointer<UInt8>, _ count: Int) {
    let (from, to) = unsafe (UnsafeRawPointer(source), UnsafeMutableRawPointer(self))
    if count > 32 || count < 8 { return unsafe update(from: source, count: count) }
    if count >= 16 {
      let head = unsafe from.loadUnaligned(as: SIMD2<UInt64>.self)
      let tail = unsafe from.loadUnaligned(fromByteOffset: count &- 16, as: SIMD2<UInt64>.self)
      unsafe to.storeBytes(of: head, as: SIMD2<UInt64>.self)
      unsafe to.storeBytes(of: tail, toByteOffset: count &- 16, as: SIMD2<UInt64>.self)
    } else {
      let head = unsafe from.loadUnaligned(as: UInt64.self)
      let tail = unsafe from.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
      unsafe to.storeBytes(of: head, as: UInt64.self)
      unsafe to.storeBytes(of: tail, toByteOffset: count &- 8, as: UInt64.self)
    }
  }
}
