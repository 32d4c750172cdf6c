import SluiceConnect
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocketProtocol

/// How a client connects.
public struct WebSocketClientOptions: Sendable {
  /// Extensions to offer, the preferred one first: `[PermessageDeflate()]` compresses. Default: none.
  public var extensions: [any WebSocketExtension] = []
  /// Fields that are added to the request. The origin sees them, no proxy does. A Host takes the place of the URL's, which is still what is
  /// connected to and verified, until a redirect leads to another origin.
  public var headers: Headers = [:]
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
  /// Limits of the response head. Default: 16 KiB, 100 fields.
  public var headLimits = HeadLimits()
  /// Limits and times of the connection.
  public var connection = WebSocketOptions()
  /// Options of the socket.
  public var tcp = TCP.Options()

  public init() {}
}
