import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

extension WebSocketHandshakeOptions {
  /// What these options answer to a request.
  /// - Throws: `RequestRejection`.
  package func agree(
    to request: HTTPRequest, isHTTP11: Bool, hasBody: Bool, isSecure: Bool
  ) throws(RequestRejection) -> ServerHandshake.Agreement {
    let handshake = ServerHandshake(
      protocols: protocols, chooseProtocol: chooseProtocol, extensions: extensions, versions: versions,
      origins: origins)
    var agreement: ServerHandshake.Agreement
    do {
      agreement = try handshake.answer(request, isHTTP11: isHTTP11, hasBody: hasBody, isSecure: isSecure)
    } catch {
      throw RequestRejection(status: error.status, reason: error.reason, fields: error.fields)
    }
    let added: Headers
    do { added = try onRequest(request) } catch { throw RequestRejection(thrown: error) }
    // A field of the application's that can't be sent: its log is told by `onRequest`'s caller, the peer is not.
    guard added.areSendable(reserved: HandshakeHeaders.reserved) else {
      throw RequestRejection(status: 500, reason: "internal server error")
    }
    for (name, value) in added {
      guard let name = HTTPField.Name(name) else { continue }
      agreement.fields.append(HTTPField(name: name, value: value))
    }
    return agreement
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
  init(head: Head, _ agreement: ServerHandshake.Agreement, isSecure: Bool) {
    self.init(head: head, version: agreement.version, subprotocol: agreement.subprotocol, isSecure: isSecure)
  }
}

extension WebSocket {
  /// Takes over a transport on which another server has answered the request. On the transport's loop only.
  package convenience init(
    over transport: Transport, request: HTTPRequest, _ agreement: ServerHandshake.Agreement,
    options: WebSocketHandshakeOptions, isSecure: Bool
  ) throws {
    let opening = WebSocketOpening(head: .parsed(ParsedRequest(request)), agreement, isSecure: isSecure)
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
