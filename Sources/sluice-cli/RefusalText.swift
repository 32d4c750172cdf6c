import Sluice
import SluiceClient

/// What a server, or a proxy, says in the body of a refusal.
struct RefusalText {
  private static let maxLines = 20
  /// Those that are not blank; none of a body that is no text.
  let lines: [String]

  init(of error: any Error) {
    lines =
      switch error {
      case WebSocketConnectError.handshake(.refused(_, let headers, let body)): Self.lines(headers, body)
      case let refusal as HTTPRefusal: Self.lines(refusal.headers, refusal.bodyStart)
      case EventSourceError.refused(_, let headers, let body): Self.lines(headers, body)
      case ConnectError.proxyRefused(_, let headers, let body): Self.lines(headers, body)
      default: []
      }
  }

  private static func lines(_ headers: HTTPFields, _ body: Bytes) -> [String] {
    let isPlain = headers[values: .contentEncoding].allSatisfy { $0 == "identity" }
    guard isPlain, let text = text(body) else { return [] }
    return text.utf8.split { $0 == 0x0A || $0 == 0x0D }.lazy.filter { !$0.allSatisfy { $0 == 0x20 || $0 == 0x09 } }
      .prefix(maxLines).map { String(Substring($0)) }
  }

  /// The last character may be cut.
  private static func text(_ bytes: Bytes) -> String? {
    for missing in 0...min(3, bytes.count) {
      if let text = String(validating: bytes.dropLast(missing), as: UTF8.self) { return text }
    }
    return nil
  }
}
