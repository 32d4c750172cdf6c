import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// A request as it came, on a connection.
package struct AskedRequest: Sendable {
  package let request: HTTPRequest
  let isHTTP11: Bool
  let hasBody: Bool
  let isSecure: Bool

  package init(_ request: HTTPRequest, isHTTP11: Bool, hasBody: Bool, isSecure: Bool) {
    self.request = request
    self.isHTTP11 = isHTTP11
    self.hasBody = hasBody
    self.isSecure = isSecure
  }
}

extension WebSocketHandshakeOptions {
  /// What these options answer to a request, `onRequest` aside.
  /// - Throws: `RequestRejection`.
  package func agree(to asked: AskedRequest) throws(RequestRejection) -> ServerHandshake.Agreement {
    try agree(to: asked, choosing: chooseProtocol)
  }

  private func agree(
    to asked: AskedRequest, choosing chooseProtocol: (@Sendable (HTTPRequest, [String]) -> String?)?
  ) throws(RequestRejection) -> ServerHandshake.Agreement {
    let handshake = ServerHandshake(
      protocols: protocols, chooseProtocol: chooseProtocol, extensions: extensions, versions: versions,
      origins: origins)
    do {
      return try handshake.answer(
        asked.request, isHTTP11: asked.isHTTP11, hasBody: asked.hasBody, isSecure: asked.isSecure)
    } catch {
      throw RequestRejection(status: error.status, reason: error.reason, fields: error.fields)
    }
  }

  /// What these options answer to a request that they agree to when the application accepts it.
  /// - Throws: `RequestRejection`.
  package func agree(
    to asked: AskedRequest, as acceptance: WebSocketAcceptance, _ agreement: ServerHandshake.Agreement
  ) throws(RequestRejection) -> ServerHandshake.Agreement {
    var agreement = agreement
    if let subprotocol = acceptance.subprotocol { agreement = try agree(to: asked) { _, _ in subprotocol } }
    // A field of the application's that can't be sent: the peer is told nothing of it.
    guard acceptance.headers.areSendable(reserved: HandshakeHeaders.reserved) else {
      throw RequestRejection(status: 500, reason: "internal server error")
    }
    for (name, value) in acceptance.headers {
      guard let name = HTTPField.Name(name) else { continue }
      agreement.fields.append(HTTPField(name: name, value: value))
    }
    return agreement
  }

  /// Asks the application, and agrees.
  /// - Throws: `RequestRejection`.
  package func settle(
    _ asked: AskedRequest, _ agreement: ServerHandshake.Agreement,
    asking onRequest: @Sendable (HTTPRequest) async throws -> WebSocketAcceptance
  ) async throws(RequestRejection) -> (ServerHandshake.Agreement, value: (any Sendable)?) {
    let acceptance: WebSocketAcceptance
    do { acceptance = try await onRequest(asked.request) } catch { throw RequestRejection(thrown: error) }
    return (try agree(to: asked, as: acceptance, agreement), acceptance.value)
  }
}

extension ServerHandshake.Agreement {
  /// The head of the 101 response.
  func response() throws(HTTPFieldError) -> Bytes {
    var writer = HeadWriter("HTTP/1.1 101 \(version.reasonPhrase)")
    try writer.append(fields)
    return writer.finish()
  }
}

extension WebSocketOpening {
  init(head: Head, _ agreement: ServerHandshake.Agreement, value: (any Sendable)?, isSecure: Bool) {
    self.init(
      head: head, version: agreement.version, subprotocol: agreement.subprotocol, value: value, isSecure: isSecure)
  }
}

extension WebSocket {
  /// Takes over a transport on which another server has answered the request. On the transport's loop only.
  package convenience init(
    over transport: Transport, request: HTTPRequest, _ agreement: ServerHandshake.Agreement, value: (any Sendable)?,
    parameters: [String: String] = [:], options: WebSocketHandshakeOptions, isSecure: Bool
  ) throws {
    let opening = WebSocketOpening(
      head: .parsed(ParsedRequest(request, parameters: parameters)), agreement, value: value, isSecure: isSecure)
    try self.init(
      over: transport, role: .server, head: Bytes(), opening: opening, extensions: agreement.extensions,
      in: ConnectionContext(.server, options.connection, on: transport.loop))
  }
}

extension WebSocketVersion {
  /// The words that clients of the first versions want to read behind 101.
  fileprivate var reasonPhrase: String {
    switch self {
    case .hixie75: "Web Socket Protocol Handshake"
    case .hixie76: "WebSocket Protocol Handshake"
    case .hybi7, .hybi8, .hybi13: "Switching Protocols"
    }
  }
}
