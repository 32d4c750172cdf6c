import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocket

/// How a client connects. What it asks for in the handshake are members too:
///
/// ```swift
/// var options = WebSocketClientOptions()
/// options.headers = ["Authorization": "Bearer \(token)"]
/// options.proxy = .environment
/// ```
@dynamicMemberLookup
public struct WebSocketClientOptions: Sendable {
  /// What is asked for in the handshake, and the connection behind it.
  public var request = WebSocketRequestOptions()
  /// Time for all of it: name resolution, connection, proxy, TLS and handshake, redirects included. Default: 10 seconds.
  public var connectTimeout: Duration = .seconds(10)
  /// Time for single steps, within `connectTimeout`. Default: none.
  public var stepTimeouts: [ConnectStep: Duration] = [:]
  /// Redirects that are followed; with 0, the default, a redirect is a refusal. Never from `wss:` to `ws:`; Authorization, Cookie and
  /// Proxy-Authorization go to the first host only.
  public var maxRedirects = 0
  /// Certificates, trust and sessions for `wss:`. Default: nil, the system's roots.
  public var tls: TLSClientContext?
  /// The proxy to go through. Default: none.
  public var proxy = ProxyChoice.none
  /// Options of the socket.
  public var tcp = TCP.Options()

  public init() {}

  public subscript<Value>(dynamicMember member: WritableKeyPath<WebSocketRequestOptions, Value>) -> Value {
    get { request[keyPath: member] }
    set { request[keyPath: member] = newValue }
  }
}
