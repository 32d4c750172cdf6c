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
    /// On a client: the URL that was connected to, and what the server answered.
    indirect case response(url: String, PackedHead)
  }
  let head: Head
  let version: WebSocketVersion
  private let agreed: AgreedSubprotocol?
  /// Whether this server's side of it is in TLS.
  let isSecure: Bool

  init(
    head: Head, version: WebSocketVersion = .hybi13, subprotocol: String?, isSecure: Bool = false
  ) {
    self.head = head
    self.version = version
    agreed = subprotocol.map { AgreedSubprotocol(name: $0) }
    self.isSecure = isSecure
  }

  /// The subprotocol agreed upon, or nil.
  var subprotocol: String? { agreed?.name }

  var request: HTTPRequest? {
    switch head {
    case .request(let packed): try? RequestHead(packed.head, limits: .none).request
    case .parsed(let parsed): parsed.request
    case .response: nil
    }
  }

  var response: HTTPResponse? {
    guard case .response(_, let packed) = head else { return nil }
    return try? ResponseHead(packed.head, limits: .none).response
  }

  var url: String {
    switch head {
    case .response(let url, _): url
    case .request, .parsed: request.map { "\(isSecure ? "wss" : "ws")://\($0.authority ?? "")\($0.path ?? "/")" } ?? ""
    }
  }
}

/// A subprotocol on the heap, so that connections without one don't hold its memory.
private final class AgreedSubprotocol: Sendable {
  let name: String

  init(name: String) { self.name = name }
}

/// A request on the heap, so that connections without one don't hold its memory.
final class ParsedRequest: Sendable {
  let request: HTTPRequest

  init(_ request: HTTPRequest) { self.request = request }
}
