/// An IPv4 or IPv6 address with a port.
public struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
  public let ipAddress: IPAddress
  private let portNumber: UInt16
  /// The interface that a link-local IPv6 address is of (RFC 4007); 0 for none.
  package let scope: UInt32

  /// - Returns: nil if the port is not in 0...65535.
  public init?(_ ipAddress: IPAddress, port: Int) {
    guard let port = UInt16(exactly: port) else { return nil }
    self.init(ipAddress, port: port)
  }

  package init(_ ipAddress: IPAddress, port: UInt16, scope: UInt32 = 0) {
    self.ipAddress = ipAddress
    self.portNumber = port
    self.scope = scope
  }

  public var port: Int { Int(portNumber) }
  public var isIPv6: Bool { !ipAddress.isIPv4 }
  /// The numeric address without the port.
  public var host: String { ipAddress.description }
  /// "127.0.0.1:80", "[::1]:80".
  public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
