import HTTPTypes
import SluiceStreams

/// A request that a server does not grant, and what it answers instead.
public struct RequestRejection: Error, Hashable, Sendable, CustomStringConvertible {
  /// The status of the answer, 400-599: with another one the answer is 500.
  public var status: Int
  /// What was wrong, for the peer to read: the body of the answer.
  public var reason: String
  /// Further fields of the answer. One that the answer has anyway (Content-Type, Content-Length, Transfer-Encoding, Date) makes it 500.
  public var fields: HTTPFields

  public init(status: Int, reason: String, fields: HTTPFields = HTTPFields()) {
    self.status = status
    self.reason = reason
    self.fields = fields
  }

  public var description: String { "request refused with \(status): \(reason)" }
}

extension RequestRejection {
  /// 401: the request lacks the right credentials (RFC 7617 §2).
  public static func unauthorized(realm: String = "websocket") -> RequestRejection {
    let quoted = realm.utf8.filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }.text
    return RequestRejection(
      status: 401, reason: "authentication required",
      fields: [.wwwAuthenticate: "Basic realm=\"\(quoted)\", charset=\"UTF-8\""])
  }

  /// What is answered to a request that could not be read.
  package init(_ error: HTTPHeadError) {
    self.init(status: error.status, reason: error.description)
  }

  /// What is answered when the application's own check of a request threw: nothing of what it threw, unless that is a rejection that can be
  /// answered with.
  package init(thrown error: any Error) {
    if let rejection = error as? RequestRejection, rejection.isAnswer {
      self = rejection
    } else {
      self.init(status: 500, reason: "internal server error")
    }
  }

  /// Whether it can be written as the end of a request, and nothing else.
  package var isAnswer: Bool {
    (400...599).contains(status)
      && fields.allSatisfy { HTTPSyntax.isValue($0.value) && !Self.ownFields.contains($0.name.canonicalName) }
  }

  private static let ownFields: Set<String> = ["content-type", "content-length", "transfer-encoding", "date"]

  /// The answer, behind which the connection ends.
  /// - Parameter isHead: Whether the request was HEAD, whose answer is a head alone.
  package func response(isHead: Bool = false) throws(HTTPFieldError) -> Bytes {
    var writer = HeadWriter("HTTP/1.1 \(status) \(reasonPhrase(forStatus: status))")
    let body = Bytes(reason + "\n")
    try writer.append("Date", HTTPDate.now)
    try writer.append("Connection", fields[.connection].map { "close, " + $0 } ?? "close")
    try writer.append("Content-Type", "text/plain; charset=utf-8")
    try writer.append("Content-Length", String(body.count))
    for field in fields where field.name != .connection {
      try writer.append(field.name.rawName, field.value)
    }
    return writer.finish(body: isHead ? Bytes() : body)
  }
}
