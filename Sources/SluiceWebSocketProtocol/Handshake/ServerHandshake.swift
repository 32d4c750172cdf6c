import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// The server's side of the opening handshake (RFC 6455 §4.2, and the drafts before it): a request in, an answer out.
package struct ServerHandshake: Sendable {
  /// Subprotocols that the server speaks, the preferred one first.
  package var protocols: [String]
  /// Chooses instead of the order of `protocols`, among what the client offers.
  package var chooseProtocol: (@Sendable (HTTPRequest, [String]) -> String?)?
  package var extensions: ExtensionNegotiation
  package var versions: Set<WebSocketVersion>
  package var origins: OriginPolicy

  package init(
    protocols: [String] = [], chooseProtocol: (@Sendable (HTTPRequest, [String]) -> String?)? = nil,
    extensions: [any WebSocketExtension] = [], versions: Set<WebSocketVersion> = Set(WebSocketVersion.allCases),
    origins: OriginPolicy = .sameOrigin
  ) {
    self.protocols = protocols
    self.chooseProtocol = chooseProtocol
    self.extensions = ExtensionNegotiation(extensions)
    self.versions = versions
    self.origins = origins
  }

  /// What was agreed upon.
  package struct Agreement: Sendable {
    package let version: WebSocketVersion
    package var subprotocol: String?
    package var extensions = NegotiatedExtensions()
    /// The fields of the 101 response.
    package var fields: HTTPFields
    /// In hixie-76: what the client's last eight bytes, behind its head, are answered with behind ours.
    package var challenge: HixieChallenge?
  }

  /// Whether a request asks for a WebSocket (RFC 6455 §4.2.1), rightly or not.
  package static func isWebSocket(_ request: HTTPRequest) -> Bool {
    request.method == .get && request.headerFields[values: .upgrade].list(contains: "websocket")
  }

  /// - Parameter isSecure: Whether the client reached this server through TLS: hixie's answers name the URL.
  package func answer(
    _ request: HTTPRequest, isHTTP11: Bool, hasBody: Bool, isSecure: Bool = false
  ) throws(HandshakeRejection) -> Agreement {
    let fields = request.headerFields
    // §4.2.1 (1): a GET of HTTP/1.1 or higher.
    guard isHTTP11 else { throw HandshakeRejection(status: 505, reason: "WebSocket requires HTTP/1.1") }
    guard request.method == .get else {
      throw HandshakeRejection(
        status: 405, reason: "a WebSocket must be opened with GET, not \(request.method.rawValue)",
        fields: [.allow: "GET"])
    }
    if hasBody { throw HandshakeRejection(status: 400, reason: "a WebSocket request must not have a body") }
    // (3): without Upgrade it is another request; RFC 9110 §15.5.22 names what would be right.
    guard fields[values: .upgrade].list(contains: "websocket") else {
      throw HandshakeRejection(
        status: 426, reason: "this is a WebSocket endpoint; the request has no Upgrade: websocket",
        fields: [.upgrade: "websocket", .connection: "Upgrade"])
    }
    guard fields[values: .connection].list(contains: "upgrade") else {
      throw HandshakeRejection(status: 400, reason: "the Connection field does not contain 'Upgrade'")
    }
    let version = try version(fields)
    try checkOrigin(request, version)
    switch version {
    case .hybi7, .hybi8, .hybi13: return try answerHybi(request, version)
    case .hixie75, .hixie76: return try answerHixie(request, version, isSecure: isSecure)
    }
  }

  private func answerHybi(
    _ request: HTTPRequest, _ version: WebSocketVersion
  ) throws(HandshakeRejection) -> Agreement {
    let fields = request.headerFields
    let keys = fields[values: .secWebSocketKey]
    guard keys.count == 1, let key = HandshakeKey(keys[0]) else {
      throw HandshakeRejection(
        status: 400, reason: "invalid Sec-WebSocket-Key (expected exactly one, 16 bytes in Base64)")
    }
    var agreement = Agreement(
      version: version,
      fields: [.upgrade: "websocket", .connection: "Upgrade", .secWebSocketAccept: key.accept])
    agreement.subprotocol = try chooseSubprotocol(request, named: "Sec-WebSocket-Protocol")
    agreement.fields[.secWebSocketProtocol] = agreement.subprotocol
    let (negotiated, field) = try extensions.answer(fields[values: .secWebSocketExtensions])
    agreement.extensions = negotiated
    agreement.fields[.secWebSocketExtensions] = field
    return agreement
  }

  // MARK: version

  /// §4.4: the version that the request is of, if it is spoken here.
  private func version(_ fields: HTTPFields) throws(HandshakeRejection) -> WebSocketVersion {
    let numbers = fields[values: .secWebSocketVersion]
    let version: WebSocketVersion? =
      if numbers.count == 1 {
        WebSocketVersion.allCases.first { $0.number == numbers[0] }
      } else if numbers.isEmpty && fields[values: .secWebSocketKey].isEmpty {
        WebSocketVersion.hixie(fields)
      } else {
        nil
      }
    if let version, versions.contains(version) { return version }
    let spoken = versions.compactMap(\.number).sorted { $0.count > $1.count || ($0.count == $1.count && $0 > $1) }
    throw HandshakeRejection(
      status: 426, reason: "unsupported WebSocket version (expected \(spoken.joined(separator: " or ")))",
      fields: [.secWebSocketVersion: spoken.joined(separator: ", ")])
  }

  // MARK: origin

  private func checkOrigin(_ request: HTTPRequest, _ version: WebSocketVersion) throws(HandshakeRejection) {
    // The drafts 7 to 10 had a name of their own for the field.
    var sent = request.headerFields[values: .origin]
    if version == .hybi7 || version == .hybi8 { sent += request.headerFields.values(named: "sec-websocket-origin") }
    guard origins.allows(sent, host: request.authority ?? "") else {
      throw HandshakeRejection(status: 403, reason: "origin not allowed")
    }
  }

  // MARK: subprotocol

  /// The application's choice, or the server's first that the client offers.
  func chooseSubprotocol(
    _ request: HTTPRequest, named field: String
  ) throws(HandshakeRejection) -> String? {
    let values = request.headerFields.values(named: field.lowercasedASCII)
    if values.isEmpty && chooseProtocol == nil { return nil }
    let elements = values.listElements
    let offered = elements.map(\.text)
    let distinct = Set(offered)
    guard elements.allSatisfy(\.isToken), distinct.count == offered.count else {
      throw HandshakeRejection(status: 400, reason: "invalid \(field) (expected distinct tokens)")
    }
    guard let chooseProtocol else { return protocols.first { distinct.contains($0) } }
    guard let chosen = chooseProtocol(request, offered) else { return nil }
    guard distinct.contains(chosen) else {
      throw HandshakeRejection(status: 500, reason: "the server chose a subprotocol that was not offered")
    }
    return chosen
  }
}
