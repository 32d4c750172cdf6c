/// A byte stream whose system can encrypt what is sent (kernel TLS): once it does, what is pushed leaves as records of application
/// data. Every call is made on the loop.
package protocol RecordEncrypting: PolledWritableStream where Input == Bytes {
  /// What the system can do for this stream.
  var encryptionSupport: EncryptionSupport { get }

  /// Has the system encrypt what is pushed from now on.
  /// - Parameter keys: As the system takes them; on Linux `struct tls_crypto_info` and what follows it (linux/tls.h).
  /// - Returns: false, and nothing is changed, if the system can't, or has not taken yet what was pushed before.
  func startEncrypting(with keys: [UInt8]) -> Bool

  /// Has what is pushed from now on encrypted with other keys. What they are refused with is thrown by `hasRoom`.
  func changeKeys(to keys: [UInt8]) throws

  /// Pushes a record of a type other than application data (RFC 8446 §5.1), in order with what was pushed before.
  func push(record: Bytes, ofType type: UInt8) throws
}

/// What a system can do to encrypt for a byte stream.
package enum EncryptionSupport: Sendable {
  case none
  /// Encrypt with the same keys to the end.
  case fixedKeys
  /// Change keys while the connection lives, as TLS 1.3 has it (RFC 8446 §4.6.3).
  case changingKeys
}
