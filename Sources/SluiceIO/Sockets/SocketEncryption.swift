import CSluiceSystem
import CSluiceUV
import DequeModule
import SluiceStreams

/// What goes between the bytes of a socket whose system encrypts them (kernel TLS): records that are not application data, and
/// changes of keys, each at its place.
final class SocketEncryption {
  private enum Interlude {
    case record(Bytes, type: UInt8)
    case keys([UInt8])
  }

  /// Each with the number of bytes that are sent before it.
  private var waiting: Deque<(position: Int, interlude: Interlude)> = []

  /// - Returns: nil if the system can't do it.
  init?(_ descriptor: CInt, keys: [UInt8]) {
    guard unsafe sluice_encrypt(descriptor, true, keys, socklen_t(keys.count)) == 0 else { return nil }
  }

  /// Of TCP connections. The system is asked once: where it has none, it may look for a module each time.
  static let support: EncryptionSupport =
    if !sluice_has_kernel_tls() { .none } else if SystemVersion.current >= firstToChangeKeys { .changingKeys } else {
      .fixedKeys
    }

  /// Of Linux.
  private static let firstToChangeKeys = SystemVersion(major: 6, minor: 14)

  var isEmpty: Bool { waiting.isEmpty }

  /// Bytes that wait, for the watermark: nothing of a peer's asking may gather without a limit.
  var queuedByteCount: Int { waiting.count * Self.cost }
  private static let cost = 256

  func append(record: Bytes, ofType type: UInt8, at position: Int) {
    waiting.append((position, .record(record.compacted(), type: type)))
  }

  func append(keys: [UInt8], at position: Int) { waiting.append((position, .keys(keys))) }

  func removeAll() { waiting = [] }

  /// How many bytes may be sent before the next one.
  func byteCount(from position: Int) -> Int { waiting.first.map { $0.position - position } ?? .max }

  /// Sends those whose place is reached.
  /// - Returns: 0, or a negative libuv status; UV_EAGAIN if the system has no room.
  func sendDue(_ descriptor: CInt, at position: Int) -> Int {
    while let next = waiting.first, next.position <= position {
      let status: Int
      switch next.interlude {
      case .record(let bytes, let type):
        status = unsafe bytes.withUnsafeBytes {
          unsafe sluice_send_record(descriptor, type, UnsafeMutableRawPointer(mutating: $0.baseAddress), UInt($0.count))
        }
      case .keys(let keys): status = Int(unsafe sluice_encrypt(descriptor, false, keys, socklen_t(keys.count)))
      }
      if status < 0 { return status }
      waiting.removeFirst()
    }
    return 0
  }
}
