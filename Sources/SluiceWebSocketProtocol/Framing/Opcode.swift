/// What a frame is (RFC 6455 §5.2). Opcodes 3-7 and 11-15 are reserved; no value of this type has one.
public enum Opcode: UInt8, Sendable, Hashable {
  case continuation = 0x0
  case text = 0x1
  case binary = 0x2
  case close = 0x8
  case ping = 0x9
  case pong = 0xA

  /// Whether frames of this kind carry the connection's state, not an application's data (RFC 6455 §5.5).
  @inlinable public var isControl: Bool { rawValue >= 0x8 }
}

/// What a message is: its first frame's opcode.
public enum MessageKind: Sendable, Hashable {
  /// Valid UTF-8.
  case text
  case binary

  @inlinable
  public var opcode: Opcode {
    switch self {
    case .text: .text
    case .binary: .binary
    }
  }
}

/// Which end of the connection this is. A client masks what it sends, a server does not (RFC 6455 §5.1).
public enum WebSocketRole: Sendable, Hashable {
  case client
  case server
}
