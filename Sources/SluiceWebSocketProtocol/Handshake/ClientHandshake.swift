import HTTPTypes
import SluiceStreams

/// Why a client rejects the response to its opening handshake.
public enum ClientHandshakeError: Error, Hashable, Sendable {
  /// Another status than 101: the server refused, redirected, or does not speak WebSocket here.
  /// `bodyStart` has the first bytes of its body, 1024 at the most.
  case refused(status: Int, headers: HTTPFields, bodyStart: Bytes)
  /// RFC 6455 §4.1: the response has no `Upgrade: websocket`.
  case missingUpgrade
  /// §4.1: the response has no `Connection: Upgrade`.
  case missingConnection
  /// §4.1: `Sec-WebSocket-Accept` is missing or does not answer the key.
  case wrongAccept
  /// §4.1: a subprotocol that was not offered.
  case unexpectedSubprotocol(String)
  /// §4.1: an extension that was not offered.
  case unexpectedExtension(String)
  /// RFC 6455 §9.1: `Sec-WebSocket-Extensions` is not a list of extensions.
  case malformedExtensions
  /// RFC 6455 §9.1: an extension that was offered, with parameters that were not.
  case invalidExtension(String, reason: String)
}

extension ClientHandshakeError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .refused(let status, _, _): "the server responded to the handshake with status \(status) instead of 101"
    case .missingUpgrade: "the server's 101 response has no 'Upgrade: websocket'"
    case .missingConnection: "the server's 101 response has no 'Connection: Upgrade'"
    case .wrongAccept: "the server's Sec-WebSocket-Accept does not match the key that was sent"
    case .unexpectedSubprotocol: "the server chose a subprotocol that was not offered"
    case .unexpectedExtension: "the server chose an extension that was not offered"
    case .malformedExtensions: "the server sent a malformed Sec-WebSocket-Extensions"
    case .invalidExtension(let name, let reason): "the server's choice of the extension \(name) is invalid: \(reason)"
    }
  }
}

/// A subprotocol that can't be offered.
public enum SubprotocolError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Not a token of RFC 9110 §5.6.2.
  case notAToken
  /// RFC 6455 §4.1: each may be offered once.
  case duplicate(String)

  public var description: String {
    switch self {
    case .notAToken: "invalid subprotocol (expected letters, digits and !#$%&'*+-.^_`|~)"
    case .duplicate(let name): "the subprotocol '\(name)' is offered twice"
    }
  }
}

/// The client's side of the opening handshake (RFC 6455 §4.1).
package struct ClientHandshake: Sendable {
  private let key: HandshakeKey
  private let protocols: [String]
  private let extensions: ExtensionNegotiation
  private let extensionOffer: String?

  /// - Parameters:
  ///   - protocols: Subprotocols to offer, the preferred one first.
  ///   - extensions: Extensions to offer, the preferred one first.
  /// - Throws: `SubprotocolError`, `ExtensionOfferError`.
  package init(
    protocols: [String] = [], extensions: [any WebSocketExtension] = [], key: HandshakeKey = HandshakeKey()
  ) throws {
    for (index, name) in protocols.enumerated() {
      guard name.utf8.isToken else { throw SubprotocolError.notAToken }
      guard !protocols[..<index].contains(name) else { throw SubprotocolError.duplicate(name) }
    }
    self.protocols = protocols
    self.extensions = ExtensionNegotiation(extensions)
    extensionOffer = try self.extensions.offer()
    self.key = key
  }

  /// What was agreed upon.
  package struct Agreement: Sendable {
    package let subprotocol: String?
    package let extensions: NegotiatedExtensions
  }

  /// What the request has besides its Host.
  package var fields: HTTPFields {
    var fields: HTTPFields = [
      .upgrade: "websocket", .connection: "Upgrade", .secWebSocketKey: key.value, .secWebSocketVersion: "13",
    ]
    if !protocols.isEmpty { fields[.secWebSocketProtocol] = protocols.joined(separator: ", ") }
    fields[.secWebSocketExtensions] = extensionOffer
    return fields
  }

  package func check(_ response: HTTPResponse) throws(ClientHandshakeError) -> Agreement {
    let fields = response.headerFields
    guard response.status.code == 101 else {
      throw .refused(status: response.status.code, headers: fields, bodyStart: Bytes())
    }
    guard fields[values: .upgrade].list(contains: "websocket") else { throw .missingUpgrade }
    guard fields[values: .connection].list(contains: "upgrade") else { throw .missingConnection }
    let accepts = fields[values: .secWebSocketAccept]
    guard accepts.count == 1, accepts[0].utf8.equals(key.accept) else { throw .wrongAccept }
    return Agreement(
      subprotocol: try chosenProtocol(fields),
      extensions: try extensions.accept(fields[values: .secWebSocketExtensions]))
  }

  private func chosenProtocol(_ fields: HTTPFields) throws(ClientHandshakeError) -> String? {
    let chosen = fields[values: .secWebSocketProtocol]
    if chosen.isEmpty { return nil }
    guard chosen.count == 1, protocols.contains(where: { chosen[0].utf8.equals($0) }) else {
      throw .unexpectedSubprotocol(chosen.joined(separator: ", "))
    }
    return chosen[0]
  }
}
