import HTTPTypes

/// A request that a server does not upgrade, and what it answers instead.
public struct HandshakeRejection: Error, Hashable, Sendable, CustomStringConvertible {
  /// The status of the answer, 400-599.
  public var status: Int
  /// What was wrong, for the peer to read: the body of the answer.
  public var reason: String
  /// Further fields of the answer.
  public var fields: HTTPFields

  public init(status: Int, reason: String, fields: HTTPFields = HTTPFields()) {
    self.status = status
    self.reason = reason
    self.fields = fields
  }

  public var description: String { "handshake rejected with \(status): \(reason)" }
}

extension HandshakeRejection {
  /// 401: the request lacks the right credentials (RFC 7617 §2).
  public static func unauthorized(realm: String = "websocket") -> HandshakeRejection {
    let quoted = realm.filter { $0 != "\"" && $0 != "\\" }
    return HandshakeRejection(
      status: 401, reason: "user and password are needed",
      fields: [.wwwAuthenticate: "Basic realm=\"\(quoted)\", charset=\"UTF-8\""])
  }
}
