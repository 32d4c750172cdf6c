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

/// The server's side of the opening handshake (RFC 6455 §4.2): a request in, an answer out.
package struct ServerHandshake: Sendable {
  /// Subprotocols that the server speaks, the preferred one first.
  package var protocols: [String]

  package init(protocols: [String] = []) {
    self.protocols = protocols
  }

  /// What was agreed upon.
  package struct Agreement: Sendable {
    package let subprotocol: String?
    /// The fields of the 101 response.
    package let fields: HTTPFields
  }

  package func answer(
    _ request: HTTPRequest, isHTTP11: Bool, hasBody: Bool
  ) throws(HandshakeRejection) -> Agreement {
    let fields = request.headerFields
    // §4.2.1 (1): a GET of HTTP/1.1 or higher.
    guard isHTTP11 else { throw HandshakeRejection(status: 505, reason: "a WebSocket needs HTTP/1.1") }
    guard request.method == .get else {
      throw HandshakeRejection(
        status: 405, reason: "a WebSocket is opened with GET, not \(request.method.rawValue)", fields: [.allow: "GET"])
    }
    if hasBody { throw HandshakeRejection(status: 400, reason: "a request that opens a WebSocket has no body") }
    // (3): without Upgrade it is another request; RFC 9110 §15.5.22 names what would be right.
    guard fields.list(.upgrade, contains: "websocket") else {
      throw HandshakeRejection(
        status: 426, reason: "this is a WebSocket; the request does not ask for one (Upgrade: websocket)",
        fields: [.upgrade: "websocket", .connection: "Upgrade"])
    }
    guard fields.list(.connection, contains: "upgrade") else {
      throw HandshakeRejection(status: 400, reason: "the Connection field does not say 'Upgrade'")
    }
    // §4.4: the versions that are spoken here.
    guard fields[values: .secWebSocketVersion] == ["13"] else {
      throw HandshakeRejection(
        status: 426, reason: "the WebSocket version must be 13", fields: [.secWebSocketVersion: "13"])
    }
    let keys = fields[values: .secWebSocketKey]
    guard keys.count == 1, let key = HandshakeKey(keys[0]) else {
      throw HandshakeRejection(status: 400, reason: "Sec-WebSocket-Key must be there once, with 16 bytes in Base64")
    }
    let subprotocol = try chooseSubprotocol(fields)
    var answer: HTTPFields = [.upgrade: "websocket", .connection: "Upgrade", .secWebSocketAccept: key.accept]
    answer[.secWebSocketProtocol] = subprotocol
    return Agreement(subprotocol: subprotocol, fields: answer)
  }

  /// The server's first that the client offers.
  private func chooseSubprotocol(_ fields: HTTPFields) throws(HandshakeRejection) -> String? {
    let offered = fields.elements(of: .secWebSocketProtocol)
    let distinct = Set(offered)
    guard offered.allSatisfy({ isToken($0) }), distinct.count == offered.count else {
      throw HandshakeRejection(status: 400, reason: "Sec-WebSocket-Protocol must list distinct tokens")
    }
    return protocols.first { distinct.contains($0[...]) }
  }
}
