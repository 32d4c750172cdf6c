import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// A client's side of HTTP CONNECT (RFC 9110 §9.3.6), without I/O.
struct HTTPTunnel: ~Copyable {
  let request: Bytes
  private let limits: HeadLimits
  private var head: HeadReader

  /// Fields that CONNECT writes itself.
  private static let reserved: Set<String> = ["host", "content-length", "transfer-encoding"]

  init(
    to origin: Origin, credentials: BasicCredentials?, headers: Headers, limits: HeadLimits = HeadLimits()
  ) throws(HTTPFieldError) {
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

  /// Takes what the proxy sent.
  /// - Returns: whether the tunnel is open.
  mutating func consume(_ bytes: Bytes) throws(ConnectError) -> Bool {
    var bytes = bytes
    do {
      while let (head, rest) = try head.consume(bytes) {
        let response = try ResponseHead(head, limits: limits).response
        if response.status.kind == .informational {
          // RFC 9110 §15.2: the answer is still to come.
          self.head = HeadReader(limits: limits)
          bytes = rest
          continue
        }
        guard response.status.kind == .successful else {
          throw ConnectError.proxyRefused(
            status: response.status.code, headers: response.headerFields, bodyStart: rest.prefix(1024).compacted())
        }
        // §9.3.6: the tunnel begins behind the head, whatever that says of a length.
        guard rest.isEmpty else { throw ConnectError.proxyEarlyBytes(rest.count) }
        return true
      }
      return false
    } catch let error as HTTPHeadError {
      throw .proxyMalformed(error)
    } catch let error as ConnectError {
      throw error
    } catch {
      throw .proxyEndedEarly
    }
  }
}
