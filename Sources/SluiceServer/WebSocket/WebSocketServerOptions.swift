import SluiceWebSocket

/// How a server takes connections, and what it agrees to. The members of both parts are members of this too:
///
/// ```swift
/// var options = WebSocketServerOptions()
/// options.protocols = ["chat"]                // options.handshake.protocols
/// options.maxConnectionsPerAddress = 50       // options.listen.maxConnectionsPerAddress
/// ```
@dynamicMemberLookup
public struct WebSocketServerOptions: Sendable {
  /// What is agreed to in each handshake, and the connection behind it.
  public var handshake = WebSocketHandshakeOptions()
  /// The sockets, and who may connect.
  public var listen = ListenOptions()

  public init() {}

  public subscript<Value>(dynamicMember member: WritableKeyPath<WebSocketHandshakeOptions, Value>) -> Value {
    get { handshake[keyPath: member] }
    set { handshake[keyPath: member] = newValue }
  }

  public subscript<Value>(dynamicMember member: WritableKeyPath<ListenOptions, Value>) -> Value {
    get { listen[keyPath: member] }
    set { listen[keyPath: member] = newValue }
  }
}
