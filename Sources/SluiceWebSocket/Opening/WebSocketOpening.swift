import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// What the opening handshake settled.
///
/// The peer's head is kept as it came, packed, and parsed again when asked for: an idle connection holds nothing more of it.
struct WebSocketOpening: Sendable {
  enum Head: Sendable {
    /// On a server: what the client asked.
    case request(PackedHead)
    /// On a server: what another server has read already.
    case parsed(ParsedRequest)
    /// What came before is not known here: the transport begins behind it.
    case none
    /// On a client: the URL that was connected to, and what the server answered.
    indirect case response(url: String, PackedHead)
    /// Any of these, where a subprotocol was agreed upon. Behind a pointer: connections without one don't hold its memory.
    indirect case agreed(subprotocol: String, Head)
    /// Any of these, where the application has accepted the request with a value.
    indirect case accepted(value: any Sendable, Head)
  }
  // In this order they take 32 bytes of each connection, and 40 in others.
  /// Who the peer is, as far as it is known.
  private(set) var remoteAddress: IPAddress?
  let version: WebSocketVersion
  /// Whether this server's side of it is in TLS.
  let isSecure: Bool
  private let agreedHead: Head

  /// The same with the peer's address.
  func with(_ address: IPAddress?) -> WebSocketOpening {
    var opening = self
    opening.remoteAddress = address
    return opening
  }

  init(
    head: Head, version: WebSocketVersion = .hybi13, subprotocol: String?, value: (any Sendable)? = nil,
    isSecure: Bool = false
  ) {
    let head = value.map { .accepted(value: $0, head) } ?? head
    agreedHead = subprotocol.map { .agreed(subprotocol: $0, head) } ?? head
    self.version = version
    self.isSecure = isSecure
  }

  /// The subprotocol agreed upon, or nil.
  var subprotocol: String? {
    if case .agreed(let subprotocol, _) = agreedHead { subprotocol } else { nil }
  }

  /// What the application has accepted the request with.
  var value: (any Sendable)? {
    if case .accepted(let value, _) = headBeneathSubprotocol { value } else { nil }
  }

  private var headBeneathSubprotocol: Head {
    if case .agreed(_, let head) = agreedHead { head } else { agreedHead }
  }

  private var head: Head {
    if case .accepted(_, let head) = headBeneathSubprotocol { head } else { headBeneathSubprotocol }
  }

  var request: HTTPRequest? {
    switch head {
    case .request(let packed): try? RequestHead(packed.head, limits: .none).request
    case .parsed(let parsed): parsed.request
    case .none, .response, .agreed, .accepted: nil
    }
  }

  var parameters: [String: String] {
    if case .parsed(let parsed) = head { parsed.parameters } else { [:] }
  }

  /// What was asked for behind the authority.
  var target: (path: String, query: String?) {
    let target =
      if case .response(let url, _) = head { (try? ConnectionURL(url))?.target ?? "/" } else { request?.path ?? "/" }
    return pathAndQuery(of: target)
  }

  var response: HTTPResponse? {
    guard case .response(_, let packed) = head else { return nil }
    return try? ResponseHead(packed.head, limits: .none).response
  }

  var url: String {
    switch head {
    case .response(let url, _): url
    case .none, .request, .parsed, .agreed, .accepted:
      request.map { "\(isSecure ? "wss" : "ws")://\($0.authority ?? "")\($0.path ?? "/")" } ?? ""
    }
  }
}

/// A request on the heap, so that connections without one don't hold its memory.
final class ParsedRequest: Sendable {
  let request: HTTPRequest
  /// What a route has found in its path.
  let parameters: [String: String]

  init(_ request: HTTPRequest, parameters: [String: String] = [:]) {
    self.request = request
    self.parameters = parameters
  }
}
