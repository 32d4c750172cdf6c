import SluiceStreams

/// Checks text that comes in pieces, and fails at the first byte that no valid text has there (RFC 6455 §8.1).
///
/// Overlong forms, surrogates and numbers above U+10FFFF fail at the byte that makes them so: `F4 90` at the `90`.
///
/// ```swift
/// var validator = UTF8Validator()
/// validator.consume([0xE2, 0x82])   // true: a character may end in the next piece
/// validator.isComplete              // false
/// validator.consume([0xAC])         // true
/// validator.isComplete              // true
/// ```
package struct UTF8Validator: Sendable {
  /// A state of the automaton below.
  @usableFromInline var state: UInt8

  @inlinable
  package init() {
    state = UTF8Automaton.accept
  }

  /// Whether the text may end here: not inside a character, and nothing was wrong.
  @inlinable package var isComplete: Bool { state == UTF8Automaton.accept }

  /// Whether the text can't become valid any more.
  @inlinable package var isRejected: Bool { state == UTF8Automaton.reject }

  /// Looks at the next piece.
  /// - Returns: false if the text can't become valid any more; every later call says the same.
  @inlinable
  package mutating func consume(_ span: Span<UInt8>) -> Bool {
    unsafe span.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return state != UTF8Automaton.reject }
      if state == UTF8Automaton.accept, unsafe UTF8Automaton.isShortASCII(base, buffer.count) { return true }
      state = unsafe UTF8Automaton.run(base, buffer.count, from: state)
      return state != UTF8Automaton.reject
    }
  }

  /// Whether the whole span is one valid text.
  @inlinable
  package static func isValid(_ span: Span<UInt8>) -> Bool {
    var validator = UTF8Validator()
    return validator.consume(span) && validator.isComplete
  }
}

/// Well-formed UTF-8 (Unicode 17, table 3-7) as an automaton whose transitions are shifts.
///
/// A state is a number of bits: the row of a byte holds, at that many bits, the next state in 6 bits. So a byte costs
/// one load, which does not depend on the state, and one shift.
@usableFromInline
enum UTF8Automaton {
  /// Not UTF-8; what the rows say where they say nothing.
  @usableFromInline static let reject: UInt8 = 0
  /// Between characters.
  @usableFromInline static let accept: UInt8 = 6
  /// One, two or three continuation bytes to come.
  private static let one: UInt8 = 12
  private static let two: UInt8 = 18
  private static let three: UInt8 = 24
  /// After E0, ED, F0 and F4, where not every continuation byte may follow.
  private static let afterE0: UInt8 = 30
  private static let afterED: UInt8 = 36
  private static let afterF0: UInt8 = 42
  private static let afterF4: UInt8 = 48

  /// 256 rows, never freed.
  nonisolated(unsafe) private static let rows: UnsafePointer<UInt64> = {
    let rows = UnsafeMutablePointer<UInt64>.allocate(capacity: 256)
    unsafe rows.initialize(repeating: 0, count: 256)
    func allow(_ bytes: ClosedRange<Int>, in state: UInt8, then next: UInt8) {
      for byte in bytes { unsafe rows[byte] |= UInt64(next) << UInt64(state) }
    }
    allow(0x00...0x7F, in: accept, then: accept)
    allow(0xC2...0xDF, in: accept, then: one)
    allow(0xE0...0xE0, in: accept, then: afterE0)
    allow(0xE1...0xEC, in: accept, then: two)
    allow(0xED...0xED, in: accept, then: afterED)
    allow(0xEE...0xEF, in: accept, then: two)
    allow(0xF0...0xF0, in: accept, then: afterF0)
    allow(0xF1...0xF3, in: accept, then: three)
    allow(0xF4...0xF4, in: accept, then: afterF4)
    allow(0x80...0xBF, in: one, then: accept)
    allow(0x80...0xBF, in: two, then: one)
    allow(0x80...0xBF, in: three, then: two)
    allow(0xA0...0xBF, in: afterE0, then: one)
    allow(0x80...0x9F, in: afterED, then: one)
    allow(0x90...0xBF, in: afterF0, then: two)
    allow(0x80...0x8F, in: afterF4, then: two)
    return unsafe UnsafePointer(rows)
  }()

  /// Whether these are at most 32 bytes, and all of them ASCII.
  @inlinable
  @inline(__always)
  static func isShortASCII(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> Bool {
    let raw = unsafe UnsafeRawPointer(bytes)
    if count >= 16 {
      guard count <= 32 else { return false }
      let bits =
        unsafe raw.loadUnaligned(as: SIMD2<UInt64>.self)
        | raw.loadUnaligned(fromByteOffset: count - 16, as: SIMD2<UInt64>.self)
      return (bits[0] | bits[1]) & 0x8080_8080_8080_8080 == 0
    }
    if count >= 8 {
      let bits =
        unsafe raw.loadUnaligned(as: UInt64.self)
        | raw.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self)
      return bits & 0x8080_8080_8080_8080 == 0
    }
    if count >= 4 {
      let bits =
        unsafe raw.loadUnaligned(as: UInt32.self)
        | raw.loadUnaligned(fromByteOffset: count - 4, as: UInt32.self)
      return bits & 0x8080_8080 == 0
    }
    if count == 0 { return true }
    return unsafe (bytes[0] | bytes[count >> 1] | bytes[count - 1]) < 0x80
  }

  /// The state after `count` bytes; `reject` is never left again.
  @usableFromInline
  @inline(never)
  static func run(_ bytes: UnsafePointer<UInt8>, _ count: Int, from first: UInt8) -> UInt8 {
    let rows = unsafe rows
    let blockSize = 32
    var state = UInt64(first)
    var offset = 0
    while count - offset >= blockSize {
      let block = unsafe bytes + offset
      offset += blockSize
      if state == UInt64(accept), unsafe isASCII(block) { continue }
      for index in 0..<blockSize { state = unsafe rows[Int(block[index])] &>> state }
      state &= 63
      if state == UInt64(reject) { return reject }
    }
    if state == UInt64(accept), unsafe isShortASCII(bytes + offset, count - offset) { return accept }
    while offset < count {
      state = unsafe rows[Int(bytes[offset])] &>> state
      offset += 1
    }
    return UInt8(truncatingIfNeeded: state & 63)
  }

  /// Whether the next 32 bytes are all ASCII.
  @inline(__always)
  private static func isASCII(_ bytes: UnsafePointer<UInt8>) -> Bool {
    let vector = unsafe UnsafeRawPointer(bytes).loadUnaligned(as: SIMD4<UInt64>.self)
    let bits = vector.lowHalf | vector.highHalf
    return (bits[0] | bits[1]) & 0x8080_8080_8080_8080 == 0
  }
}
