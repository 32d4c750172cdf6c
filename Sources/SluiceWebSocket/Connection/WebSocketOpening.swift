import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// What the opening handshake settled.
///
/// The peer's head is kept as it came and parsed again when asked for: an idle connection holds nothing more of it.
struct WebSocketOpening: Sendable {
  enum Head: Sendable {
    /// On a server: what the client asked.
    case request(Bytes)
    /// On a server: what another server has read already.
    case parsed(ParsedRequest)
    /// On a client: the URL that was connected to, and what the server answered.
    case response(url: String, Bytes)
  }
  let head: Head
  let version: WebSocketVersion
  /// The subprotocol agreed upon, or nil.
  let subprotocol: String?
  let limits: HeadLimits
  /// Whether this server's side of it is in TLS.
  let isSecure: Bool

  init(
    head: Head, version: WebSocketVersion = .hybi13, subprotocol: String?, limits: HeadLimits,
    isSecure: Bool = false
  ) {
    self.isSecure = isSecure
    self.head = head
    self.version = version
    self.subprotocol = subprotocol
    self.limits = limits
  }

  var request: HTTPRequest? {
    switch head {
    case .request(let bytes): try? RequestHead(bytes, limits: limits).request
    case .parsed(let parsed): parsed.request
    case .response: nil
    }
  }

  var response: HTTPResponse? {
    guard case .response(_, let bytes) = head else { return nil }
    return try? ResponseHead(bytes, limits: limits).response
  }

  var url: String {
    switch head {
    case .response(let url, _): url
    case .request, .parsed: request.map { "\(isSecure ? "wss" : "ws")://\($0.authority ?? "")\($0.path ?? "/")" } ?? ""
    }
  }
}

/// A request on the heap, so that connections without one don't hold its memory.
final class ParsedRequest: Sendable {
  let request: HTTPRequest

  init(_ request: HTTPRequest) { self.request = request }
}
