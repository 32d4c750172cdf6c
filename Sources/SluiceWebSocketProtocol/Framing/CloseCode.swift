import SluiceStreams

/// Why a connection is closed (RFC 6455 §7.4, and the IANA registry of WebSocket close codes).
///
/// The codes that have a name here may be sent, by either side; applications have 3000-4999 for their own, `CloseCode(rawValue: 4001)`. What is
/// received may also be 1005, where the peer's Close had no code, or 1006, where the connection was lost without one.
public struct CloseCode: RawRepresentable, Sendable, Hashable {
  public let rawValue: UInt16

  public init(rawValue: UInt16) {
    self.rawValue = rawValue
  }

  /// 1000: the purpose of the connection is fulfilled.
  public static let normal = CloseCode(rawValue: 1000)
  /// 1001: the server shuts down, or the browser leaves the page.
  public static let goingAway = CloseCode(rawValue: 1001)
  /// 1002: the peer broke the protocol.
  public static let protocolError = CloseCode(rawValue: 1002)
  /// 1003: a kind of data that this endpoint does not take, such as binary.
  public static let unsupportedData = CloseCode(rawValue: 1003)
  /// 1005: never on the wire; stands for a Close frame that has no code.
  package static let noStatus = CloseCode(rawValue: 1005)
  /// 1006: never on the wire; stands for a connection that was lost without a Close frame.
  package static let abnormal = CloseCode(rawValue: 1006)
  /// 1007: the payload is not what the message's kind says: text that is not UTF-8, a deflate stream that is corrupt.
  public static let invalidPayload = CloseCode(rawValue: 1007)
  /// 1008: against the endpoint's policy, when no other code fits.
  public static let policyViolation = CloseCode(rawValue: 1008)
  /// 1009: a message longer than the endpoint takes.
  public static let messageTooBig = CloseCode(rawValue: 1009)
  /// 1010: a client's: it needs an extension that the server did not accept. A server refuses the handshake instead.
  public static let mandatoryExtension = CloseCode(rawValue: 1010)
  /// 1011: the server failed.
  public static let internalError = CloseCode(rawValue: 1011)
  /// 1012: the service restarts; the client may come back.
  public static let serviceRestart = CloseCode(rawValue: 1012)
  /// 1013: the service is overloaded; the client may come back later.
  public static let tryAgainLater = CloseCode(rawValue: 1013)
  /// 1014: a gateway got an invalid answer from its upstream server.
  public static let badGateway = CloseCode(rawValue: 1014)
  /// 1015: never on the wire; stands for a TLS handshake that failed.
  package static let tlsHandshake = CloseCode(rawValue: 1015)

  /// Whether a Close frame may carry the code, and so whether a connection may be closed with it: 1000-1003, 1007-1014 and 3000-4999. (A web page
  /// may only send 1000 and 3000-4999; that is the browser's rule, not the protocol's.)
  ///
  /// 1004 has no meaning yet, 1005, 1006 and 1015 must not be sent (RFC 6455 §7.4.1), 1016-2999 are for later
  /// versions of the protocol, and 0-999 and 5000 upwards are not used (§7.4.2).
  public var isAllowedOnWire: Bool {
    switch rawValue {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }

  /// Whether a Close with this code says that the peer was done: 1000, 1001, none, and the codes of applications, 3000-4999, whose meaning is
  /// theirs. All others tell of a failure.
  public var isCleanEnd: Bool {
    switch rawValue {
    case 1000, 1001, 1005, 3000...4999: true
    default: false
    }
  }
}

extension CloseCode: CustomStringConvertible {
  /// "1000 (normal)", or the number alone where no name is registered.
  public var description: String {
    guard let name else { return "\(rawValue)" }
    return "\(rawValue) (\(name))"
  }

  private var name: String? {
    switch self {
    case .normal: "normal"
    case .goingAway: "going away"
    case .protocolError: "protocol error"
    case .unsupportedData: "unsupported data"
    case .noStatus: "no status"
    case .abnormal: "abnormal closure"
    case .invalidPayload: "invalid payload"
    case .policyViolation: "policy violation"
    case .messageTooBig: "message too big"
    case .mandatoryExtension: "mandatory extension"
    case .internalError: "internal error"
    case .serviceRestart: "service restart"
    case .tryAgainLater: "try again later"
    case .badGateway: "bad gateway"
    case .tlsHandshake: "TLS handshake"
    default: nil
    }
  }
}

extension CloseCode {
  /// What a Close frame holds (RFC 6455 §5.5.1): the code in two bytes, then the reason; nothing if there is no code.
  package func payload(reason: String) -> Bytes {
    if self == .noStatus { return Bytes() }
    var builder = BytesBuilder(capacity: 2 + reason.utf8.count)
    builder.append(bigEndian: rawValue)
    builder.append(reason)
    return builder.take()
  }
}
