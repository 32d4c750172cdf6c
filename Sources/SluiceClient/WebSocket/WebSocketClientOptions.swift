import SluiceWebSocket

/// How a client connects, and what it asks for. The members of both parts are members of this too:
///
/// ```swift
/// var options = WebSocketClientOptions()
/// options.headers = ["Authorization": "Bearer \(token)"]   // options.request.headers
/// options.proxy = .environment                              // options.connect.proxy
/// ```
@dynamicMemberLookup
public struct WebSocketClientOptions: Sendable {
  /// What is asked for in the handshake, and the connection behind it.
  public var request = WebSocketRequestOptions()
  /// The way to the server. Its `timeout` is for all of it, handshake and redirects included.
  public var connect = ConnectOptions()
  /// Redirects that are followed; with 0, the default, a redirect is a refusal. Never from `wss:` to `ws:`; Authorization, Cookie and
  /// Proxy-Authorization go to the first host only.
  public var maxRedirects = 0

  public init() {}

  public subscript<Value>(dynamicMember member: WritableKeyPath<WebSocketRequestOptions, Value>) -> Value {
    get { request[keyPath: member] }
    set { request[keyPath: member] = newValue }
  }

  public subscript<Value>(dynamicMember member: WritableKeyPath<ConnectOptions, Value>) -> Value {
    get { connect[keyPath: member] }
    set { connect[keyPath: member] = newValue }
  }
}
