internal import CSluiceVector
import SluiceStreams

/// The four bytes that a client's payload is xored with (RFC 6455 §5.3), turned to where the payload goes on.
///
/// ```swift
/// let key = MaskingKey(0x37, 0xfa, 0x21, 0x3d)
/// var builder = BytesBuilder()
/// builder.append(Bytes("Hello").span, masking: key)   // 7f 9f 4d 51 58
/// builder.append(Bytes("!").span, masking: key.rotated(by: 5))
/// ```
public struct MaskingKey: Sendable, Hashable {
  /// The key as it lies in memory, in wire order.
  @usableFromInline let word: UInt32

  @inlinable
  init(word: UInt32) {
    self.word = word
  }

  /// The bytes in wire order; byte `i` of the payload is xored with byte `i % 4` of the key.
  @inlinable
  public init(_ byte0: UInt8, _ byte1: UInt8, _ byte2: UInt8, _ byte3: UInt8) {
    let number = UInt32(byte3) << 24 | UInt32(byte2) << 16 | UInt32(byte1) << 8 | UInt32(byte0)
    word = UInt32(littleEndian: number)
  }

  /// A key that nobody can guess, if nobody can guess the generator (RFC 6455 §10.3).
  public static func random(using generator: inout some RandomNumberGenerator) -> MaskingKey {
    MaskingKey(word: generator.next())
  }

  /// The key for what follows after `count` payload bytes (0 or more).
  @inlinable
  public func rotated(by count: Int) -> MaskingKey {
    let bits = UInt32(truncatingIfNeeded: count & 3) &* 8
    let number = UInt32(littleEndian: word)
    // The masking shifts make a rotation by nothing of a rotation by 32 bits.
    return MaskingKey(word: UInt32(littleEndian: number &>> bits | number &<< (32 &- bits)))
  }

  /// The key's bytes in wire order.
  public var bytes: (UInt8, UInt8, UInt8, UInt8) {
    let number = UInt32(littleEndian: word)
    return (
      UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8),
      UInt8(truncatingIfNeeded: number >> 16), UInt8(truncatingIfNeeded: number >> 24)
    )
  }

  /// Masks or unmasks bytes where they lie. The first byte meets the key's first byte.
  @inlinable
  public func apply(to bytes: inout MutableSpan<UInt8>) {
    unsafe bytes.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      unsafe MaskingKernel.xor(into: base, from: UnsafePointer(base), count: buffer.count, key: word)
    }
  }
}

extension BytesBuilder {
  /// Appends a masked or unmasked copy in one pass; the source is not touched.
  /// - Parameter key: Its first byte meets the span's first.
  @inlinable
  @inline(__always)
  public mutating func append(_ span: Span<UInt8>, masking key: MaskingKey) {
    unsafe span.withUnsafeBufferPointer { source in
      guard let base = source.baseAddress else { return }
      let count = source.count
      unsafe appendUninitialized(count) { unsafe MaskingKernel.xor(into: $0, from: base, count: count, key: key.word) }
    }
  }
}

/// The loop behind masking.
///
/// Whole vectors first, then the last vector once more from the end, so that no byte is done alone from 4 bytes on.
/// What is read twice is read before anything is written: the kernel also works in place.
@usableFromInline
enum MaskingKernel {
  /// Writes `count` bytes of `source`, xored with the key, to `target`.
  ///
  /// `target` and `source` hold `count` bytes and are the same or don't overlap. No alignment is asked for.
  @inlinable
  @inline(__always)
  static func xor(into target: UnsafeMutablePointer<UInt8>, from source: UnsafePointer<UInt8>, count: Int, key: UInt32)
  {
    if count >= 64 {
      unsafe long(into: target, from: source, count: count, key: key)
    } else if count >= 16 {
      unsafe medium(into: target, from: source, count: count, key: key)
    } else {
      unsafe short(into: target, from: source, count: count, key: key)
    }
  }

  @inlinable
  @inline(__always)
  static func turned(_ key: UInt32, by count: Int) -> UInt32 {
    MaskingKey(word: key).rotated(by: count).word
  }

  /// 64 bytes and more.
  @usableFromInline
  @inline(never)
  static func long(into target: UnsafeMutablePointer<UInt8>, from source: UnsafePointer<UInt8>, count: Int, key: UInt32)
  {
    #if arch(x86_64)
      if sluice_has_avx2() {
        return unsafe sluice_mask_avx2(target, source, count, key)
      }
    #endif
    unsafe longForAll(into: target, from: source, count: count, key: key)
  }

  /// The same on every processor.
  static func longForAll(
    into target: UnsafeMutablePointer<UInt8>, from source: UnsafePointer<UInt8>, count: Int, key: UInt32
  ) {
    typealias Vector = SIMD16<UInt32>
    let from = unsafe UnsafeRawPointer(source)
    let to = UnsafeMutableRawPointer(target)
    let size = MemoryLayout<Vector>.size
    let last = count - size
    let tail =
      unsafe from.loadUnaligned(fromByteOffset: last, as: Vector.self) ^ Vector(repeating: turned(key, by: last))
    let keys = Vector(repeating: key)
    var offset = 0
    while offset < last {
      unsafe to.storeBytes(
        of: from.loadUnaligned(fromByteOffset: offset, as: Vector.self) ^ keys, toByteOffset: offset, as: Vector.self)
      offset += size
    }
    unsafe to.storeBytes(of: tail, toByteOffset: last, as: Vector.self)
  }

  /// 16 to 63 bytes.
  @inlinable
  @inline(__always)
  static func medium(
    into target: UnsafeMutablePointer<UInt8>, from source: UnsafePointer<UInt8>, count: Int, key: UInt32
  ) {
    typealias Vector = SIMD4<UInt32>
    let from = unsafe UnsafeRawPointer(source)
    let to = UnsafeMutableRawPointer(target)
    let last = count - 16
    let tail =
      unsafe from.loadUnaligned(fromByteOffset: last, as: Vector.self) ^ Vector(repeating: turned(key, by: last))
    let keys = Vector(repeating: key)
    var offset = 0
    while offset < last {
      unsafe to.storeBytes(
        of: from.loadUnaligned(fromByteOffset: offset, as: Vector.self) ^ keys, toByteOffset: offset, as: Vector.self)
      offset += 16
    }
    unsafe to.storeBytes(of: tail, toByteOffset: last, as: Vector.self)
  }

  /// 0 to 15 bytes.
  @inlinable
  @inline(__always)
  static func short(
    into target: UnsafeMutablePointer<UInt8>, from source: UnsafePointer<UInt8>, count: Int, key: UInt32
  ) {
    let from = unsafe UnsafeRawPointer(source)
    let to = UnsafeMutableRawPointer(target)
    if count >= 8 {
      let first = UInt64(truncatingIfNeeded: key) << 32 | UInt64(truncatingIfNeeded: key)
      let turned = turned(key, by: count)
      let second = UInt64(truncatingIfNeeded: turned) << 32 | UInt64(truncatingIfNeeded: turned)
      let head = unsafe from.loadUnaligned(as: UInt64.self) ^ first
      let tail = unsafe from.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self) ^ second
      unsafe to.storeBytes(of: head, as: UInt64.self)
      unsafe to.storeBytes(of: tail, toByteOffset: count - 8, as: UInt64.self)
    } else if count >= 4 {
      let head = unsafe from.loadUnaligned(as: UInt32.self) ^ key
      let tail = unsafe from.loadUnaligned(fromByteOffset: count - 4, as: UInt32.self) ^ turned(key, by: count)
      unsafe to.storeBytes(of: head, as: UInt32.self)
      unsafe to.storeBytes(of: tail, toByteOffset: count - 4, as: UInt32.self)
    } else {
      var number = UInt32(littleEndian: key)
      for index in 0..<count {
        unsafe target[index] = source[index] ^ UInt8(truncatingIfNeeded: number)
        number >>= 8
      }
    }
  }
}
