import SluiceStreams

/// Something that changes messages on their way, agreed upon in the opening handshake (RFC 6455 §9).
///
/// `PermessageDeflate` is one. An extension of one's own describes itself here, and does its work in a session for each
/// connection:
///
/// ```swift
/// struct Reversing: WebSocketExtension {
///   let name = "x-reverse"
///   let reservedBits = ReservedBits.rsv2
///   func offers() -> [ExtensionParameters] { [ExtensionParameters(name)] }
///   func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
///     ExtensionAnswer(parameters: ExtensionParameters(name), session: ReversingSession())
///   }
///   func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession { ReversingSession() }
/// }
/// ```
public protocol WebSocketExtension: Sendable {
  /// The name under which it is negotiated, a token.
  var name: String { get }

  /// The bits that it sets on the first frame of a message. Of two extensions that use the same one, the second is declined.
  var reservedBits: ReservedBits { get }

  /// On a client: what to offer, the preferred form first. Names and values must be tokens.
  func offers() -> [ExtensionParameters]

  /// On a server: chooses among what the client offered under this name, in the client's order.
  /// - Returns: nil to decline.
  func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer?

  /// On a client: takes what the server chose.
  /// - Throws: if the answer is not one to what was offered; the connection is not opened then. The error's description is
  ///   part of `ClientHandshakeError.invalidExtension`.
  func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession
}

/// What a server's extension agrees to.
public struct ExtensionAnswer: Sendable {
  public var parameters: ExtensionParameters
  public var session: any ExtensionSession

  public init(parameters: ExtensionParameters, session: any ExtensionSession) {
    self.parameters = parameters
    self.session = session
  }
}

/// An extension's work on one connection.
///
/// Messages are given one at a time for each direction, in order; what takes its time holds the messages behind it, and the
/// Close behind those. `close` is called once, after the last message of both directions.
public protocol ExtensionSession: AnyObject, Sendable {
  /// Turns what the peer sent into what it meant. Takes its bits off `reserved`.
  /// - Throws: to fail the connection. A `WebSocketProtocolError` is told to the peer with its close code, anything else with
  ///   1011. Messages before this one are delivered first.
  func decode(_ message: ExtensionMessage) async throws -> ExtensionMessage

  /// Turns a message into what is sent. Puts its bits on `reserved` if it did anything.
  /// - Throws: to fail the connection with 1011. Messages before this one are sent first.
  func encode(_ message: ExtensionMessage) async throws -> ExtensionMessage

  /// The connection has ended.
  func close()
}

/// A message on its way through the extensions.
public struct ExtensionMessage: Sendable, Hashable {
  public var kind: MessageKind
  /// The bits of its first frame.
  public var reserved: ReservedBits
  public var bytes: Bytes
  /// What the sender said of it: false asks to leave its bytes as they are, as far as their length could tell of a secret.
  public var isCompressible: Bool

  public init(kind: MessageKind, reserved: ReservedBits = [], bytes: Bytes, isCompressible: Bool = true) {
    self.kind = kind
    self.reserved = reserved
    self.bytes = bytes
    self.isCompressible = isCompressible
  }
}
