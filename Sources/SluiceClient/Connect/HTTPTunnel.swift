import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// A client's side of HTTP CONNECT (RFC 9110 §9.3.6), without I/O.
package struct HTTPTunnel: ~Copyable {
  package let request: Bytes
  private var limits: HeadLimits
  private var head: HeadReader

  /// Fields that CONNECT writes itself.
  static let reserved: Set<String> = ["host", "content-length", "transfer-encoding"]

  package init(
    to origin: Origin, credentials: BasicCredentials?, headers: Headers, limits: HeadLimits = HeadLimits()
  ) throws(HTTPFieldError) {
    // What is no authority would be another request line.
    guard HTTPSyntax.isAuthority(origin.authority) else { throw .invalidHost }
    var writer = HeadWriter("CONNECT \(origin.authority) HTTP/1.1")
    try writer.append("Host", origin.authority)
    var reserved = Self.reserved
    if let credentials {
      try writer.append("Proxy-Authorization", credentials.field)
      reserved.insert("proxy-authorization")
    }
    try writer.append(headers, reserved: reserved)
    request = writer.finish()
    self.limits = limits
    head = HeadReader(limits: limits)
  }

  package enum Step {
    case wantsMore
    /// The tunnel is open. What came behind the answer is the origin's.
    case connected(Bytes)
    /// The proxy's answer, and what came of its body.
    case refused(HTTPResponse, Bytes)
  }

  /// Takes what the proxy sent.
  package mutating func consume(_ bytes: Bytes) throws(HTTPHeadError) -> Step {
    var bytes = bytes
    while let (head, rest) = try head.consume(bytes) {
      let response = try ResponseHead(head, limits: limits).response
      switch response.status.kind {
      case .informational:
        // RFC 9110 §15.2: the answer is still to come. All share the limit.
        limits.maxHeadBytes -= head.count
        self.head = HeadReader(limits: limits)
        bytes = rest
      // §9.3.6: the tunnel begins behind the head, whatever that says of a length.
      case .successful: return .connected(rest)
      default: return .refused(response, rest)
      }
    }
    return .wantsMore
  }
}
