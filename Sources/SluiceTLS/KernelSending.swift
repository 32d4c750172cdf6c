import CSluiceOpenSSL
import SluiceStreams

/// The sending half of a connection where the system makes the records (kernel TLS).
///
/// Data goes to the transport as it is. OpenSSL, which has handed over its keys, gives what else there is to send (alerts, session
/// tickets, changes of keys) as plain records, each with its type.
final class KernelSending {
  private let transport: any RecordEncrypting
  private let secretLabel: String
  /// Of this half's traffic (RFC 8446 §7.1).
  private var secret: [UInt8] = []
  private var keys: KernelKeys?
  /// The type of the record that OpenSSL writes next.
  var recordType = UInt8(SSL3_RT_APPLICATION_DATA)
  /// Bytes of records that were pushed since this was last set to 0; a short one counts as what it holds with its keys.
  var pushedByteCount = 0
  private static let minCost = 256

  init(_ transport: any RecordEncrypting, isServer: Bool) {
    self.transport = transport
    secretLabel = isServer ? "SERVER_TRAFFIC_SECRET_0" : "CLIENT_TRAFFIC_SECRET_0"
  }

  var hasBegun: Bool { keys != nil }

  /// - Parameter line: Of the key log: a label, the client's random and a secret, the last two in hexadecimal.
  func note(keyLogLine line: String) {
    let words = line.utf8.split(separator: 0x20)
    guard words.count == 3, words[0].equals(secretLabel) else { return }
    let digits = words[2].compactMap(ASCII.hexDigit)
    secret = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  /// Takes over the keys that OpenSSL would encrypt with.
  /// - Returns: whether the system makes the records from here on.
  func begin(_ keys: KernelKeys, behind output: consuming BytesBuilder) -> Bool {
    // OpenSSL since 3.2 hands over changed keys in the same way.
    if hasBegun { return change(to: keys) }
    do { try transport.sendGathered(output, backTo: transport.loop.scratch) } catch { return false }
    guard !keys.isTLS13 || transport.encryptionSupport == .changingKeys, transport.startEncrypting(with: keys.encoded)
    else { return false }
    self.keys = keys
    return true
  }

  private func change(to keys: KernelKeys) -> Bool {
    self.keys = keys
    // A transport that has failed says so itself, at the next `hasRoom`.
    try? transport.changeKeys(to: keys.encoded)
    return true
  }

  func push(_ record: Bytes, digest: OpaquePointer?) {
    pushedByteCount += max(record.count, Self.minCost)
    let type = recordType
    recordType = UInt8(SSL3_RT_APPLICATION_DATA)
    try? transport.push(record: record, ofType: type)
    // OpenSSL before 3.2 changes its own keys only.
    guard OpenSSL_version_num() < 0x3020_0000, type == UInt8(SSL3_RT_HANDSHAKE),
      record.first == UInt8(SSL3_MT_KEY_UPDATE), var keys, keys.isTLS13
    else { return }
    unsafe secret = expand(secret, "traffic upd", to: secret.count, unsafe digest)
    unsafe keys.replace(
      key: expand(secret, "key", to: keys.keyCount, unsafe digest), iv: expand(secret, "iv", to: 12, unsafe digest))
    _ = change(to: keys)
  }

  /// HKDF-Expand-Label (RFC 8446 §7.1).
  private func expand(_ secret: [UInt8], _ label: String, to count: Int, _ digest: OpaquePointer?) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: count)
    let isDone = unsafe sluice_expand_label(digest, secret, secret.count, label, &output, count)
    // Whatever the peer makes of such keys, it is not our data.
    return isDone ? output : (0..<count).map { _ in .random(in: 0...255) }
  }
}

/// The keys of one half as the system takes them: `struct tls_crypto_info` of linux/tls.h and, behind it, an initialisation vector,
/// a key, a salt (the vector's beginning) and a sequence number.
struct KernelKeys {
  private(set) var encoded: [UInt8]
  private let ivCount: Int
  let keyCount: Int
  private let saltCount: Int

  private static let headerCount = 4
  private static let sequenceCount = 8

  /// - Parameter start: Of what OpenSSL has encoded.
  /// - Returns: nil for a cipher that is not known here.
  init?(_ start: UnsafeRawPointer) {
    let cipher = unsafe start.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
    switch cipher {
    case 51: (ivCount, keyCount, saltCount) = (8, 16, 4)  // AES-128-GCM
    case 52: (ivCount, keyCount, saltCount) = (8, 32, 4)  // AES-256-GCM
    case 53: (ivCount, keyCount, saltCount) = (8, 16, 4)  // AES-128-CCM
    case 54: (ivCount, keyCount, saltCount) = (12, 32, 0)  // ChaCha20-Poly1305
    default: return nil
    }
    let count = Self.headerCount + ivCount + keyCount + saltCount + Self.sequenceCount
    unsafe encoded = Array(UnsafeRawBufferPointer(start: start, count: count))
  }

  var isTLS13: Bool { UInt16(encoded[0]) | UInt16(encoded[1]) << 8 == UInt16(TLS1_3_VERSION) }

  /// Other keys of the same cipher, with which nothing has been sent.
  /// - Parameter iv: 12 bytes (RFC 8446 §5.3).
  mutating func replace(key: [UInt8], iv: [UInt8]) {
    encoded =
      encoded.prefix(Self.headerCount) + iv.dropFirst(saltCount) + key + iv.prefix(saltCount)
      + Array(repeating: 0, count: Self.sequenceCount)
  }
}
