/// A version of the protocol, by its drafts' names.
public enum WebSocketVersion: String, Sendable, Hashable, CaseIterable {
  /// draft-hixie-thewebsocketprotocol-75 (2010): text only, no closing handshake.
  case hixie75 = "hixie-75"
  /// draft-hixie-thewebsocketprotocol-76 (2010): text only.
  case hixie76 = "hixie-76"
  /// draft-ietf-hybi-thewebsocketprotocol-07 (2011).
  case hybi7 = "hybi-7"
  /// draft-ietf-hybi-thewebsocketprotocol-08 to -12 (2011).
  case hybi8 = "hybi-8"
  /// RFC 6455.
  case hybi13 = "hybi-13"

  /// What stands in `Sec-WebSocket-Version`; nil for the versions before there was that field.
  package var number: String? {
    switch self {
    case .hixie75, .hixie76: nil
    case .hybi7: "7"
    case .hybi8: "8"
    case .hybi13: "13"
    }
  }

  /// Whether it has frames with opcodes: binary messages, ping and pong, close codes, extensions.
  package var hasOpcodes: Bool { number != nil }
}
