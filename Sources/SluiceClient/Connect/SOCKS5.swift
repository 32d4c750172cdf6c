import SluiceHTTP
import SluiceIO
import SluiceStreams

/// What a SOCKS5 proxy refused or did wrong (RFC 1928, RFC 1929).
public enum SOCKSError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Another version than 5, or of the sub-negotiation than 1.
  case wrongVersion(UInt8)
  /// RFC 1928 §3: none of the methods that were offered (0xFF), or one that was not.
  case noMethod(UInt8)
  /// RFC 1929 §2: user or password are wrong.
  case wrongCredentials
  /// RFC 1928 §6: the reply's number.
  case refused(UInt8)
  /// An unknown address type in the reply.
  case wrongAddressType(UInt8)
  /// A host name, user or password of more than 255 bytes, or none.
  case tooLong(String, byteCount: Int)
  /// A host name with a NUL, at which the proxy may cut it.
  case invalidHost
  /// A port that is not in 1...65535.
  case invalidPort(Int)

  public var description: String {
    switch self {
    case .wrongVersion(let version): "unsupported protocol version \(version)"
    case .noMethod(0xFF): "it accepts none of the offered authentication methods"
    case .noMethod(let method): "it chose authentication method \(method), which was not offered"
    case .wrongCredentials: "it rejected the user name or password"
    case .refused(let reply): "\(Self.reason(reply)) (reply \(reply))"
    case .wrongAddressType(let type): "unknown address type \(type) in its reply"
    case .tooLong(let what, let count): "the \(what) is \(count) bytes long (expected 1–255)"
    case .invalidHost: "the host name contains a NUL byte"
    case .invalidPort(let port): "invalid port \(port) (expected 1–65535)"
    }
  }

  private static func reason(_ reply: UInt8) -> String {
    switch reply {
    case 1: "general failure"
    case 2: "not allowed by its rules"
    case 3: "network unreachable"
    case 4: "host unreachable"
    case 5: "connection refused"
    case 6: "time to live expired"
    case 7: "command not supported"
    case 8: "address type not supported"
    default: "refused"
    }
  }
}

/// A client's side of SOCKS5, without I/O.
package struct SOCKS5: Sendable {
  private let request: Bytes
  /// User and password as they are sent, or nil.
  private let credentials: Bytes?
  private var received: [UInt8] = []
  private var state = State.choosing

  private enum State {
    case choosing
    case authenticating
    case connecting
  }

  package enum Step: Equatable {
    case send(Bytes)
    case wantsMore
    /// The tunnel is open. What came behind the reply is the origin's.
    case connected(Bytes)
  }

  package init(_ origin: Origin, credentials: ConnectionURL.UserInfo?) throws(SOCKSError) {
    request = try Self.request(origin)
    self.credentials = if let credentials { try Self.credentials(credentials) } else { nil }
  }

  /// RFC 1928 §4: the proxy resolves names.
  private static func request(_ origin: Origin) throws(SOCKSError) -> Bytes {
    guard !origin.host.utf8.contains(0) else { throw .invalidHost }
    guard let port = UInt16(exactly: origin.port), port > 0 else { throw .invalidPort(origin.port) }
    var builder = BytesBuilder(capacity: 32)
    for byte in [5, 1, 0] as [UInt8] { builder.append(byte) }
    if let address = IPAddress(origin.host) {
      builder.append(address.isIPv4 ? 1 : 4)
      builder.append(contentsOf: address.bytes)
    } else {
      builder.append(3)
      try builder.append(counted: origin.host, "host name")
    }
    builder.append(bigEndian: port)
    return builder.take()
  }

  /// RFC 1929 §2.
  private static func credentials(_ userInfo: ConnectionURL.UserInfo) throws(SOCKSError) -> Bytes {
    var builder = BytesBuilder(capacity: 64)
    builder.append(1)
    try builder.append(counted: userInfo.user, "user")
    try builder.append(counted: userInfo.password, "password")
    return builder.take()
  }

  /// RFC 1928 §3: the first bytes, with the methods that can be used.
  package var greeting: Bytes { credentials == nil ? [5, 1, 0] : [5, 2, 0, 2] }

  /// Takes what the proxy sent.
  package mutating func consume(_ bytes: Bytes) throws(SOCKSError) -> Step {
    received += bytes
    switch state {
    case .choosing:
      guard received.count >= 2 else { return .wantsMore }
      guard received[0] == 5 else { throw .wrongVersion(received[0]) }
      switch (received[1], credentials) {
      case (0, _):
        state = .connecting
        received.removeFirst(2)
        return .send(request)
      case (2, let credentials?):
        state = .authenticating
        received.removeFirst(2)
        return .send(credentials)
      default: throw .noMethod(received[1])
      }
    case .authenticating:
      guard received.count >= 2 else { return .wantsMore }
      guard received[0] == 1 else { throw .wrongVersion(received[0]) }
      guard received[1] == 0 else { throw .wrongCredentials }
      state = .connecting
      received.removeFirst(2)
      return .send(request)
    case .connecting: return try reply()
    }
  }

  /// RFC 1928 §6.
  private func reply() throws(SOCKSError) -> Step {
    let bytes = received
    guard bytes.count >= 5 else {
      // What is wrong already needs no more bytes.
      if let version = bytes.first, version != 5 { throw .wrongVersion(version) }
      if bytes.count >= 2, bytes[1] != 0 { throw .refused(bytes[1]) }
      return .wantsMore
    }
    guard bytes[0] == 5 else { throw .wrongVersion(bytes[0]) }
    guard bytes[1] == 0 else { throw .refused(bytes[1]) }
    let addressLength: Int
    switch bytes[3] {
    case 1: addressLength = 4
    case 3: addressLength = 1 + Int(bytes[4])
    case 4: addressLength = 16
    default: throw .wrongAddressType(bytes[3])
    }
    let count = 4 + addressLength + 2
    return bytes.count < count ? .wantsMore : .connected(Bytes(bytes.dropFirst(count)))
  }
}

extension BytesBuilder {
  fileprivate mutating func append(counted text: String, _ what: String) throws(SOCKSError) {
    guard let count = UInt8(exactly: text.utf8.count), count > 0 else {
      throw .tooLong(what, byteCount: text.utf8.count)
    }
    append(count)
    append(text)
  }
}
