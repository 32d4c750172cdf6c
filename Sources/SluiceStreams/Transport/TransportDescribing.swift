/// A byte stream that can tell which connection it is: what stands on it need not know whether that is a socket, TLS or another library's channel.
/// Every call is made on the loop.
package protocol TransportDescribing {
  /// Where the peer is; nil if it has no such address, as behind a Unix socket, or is gone.
  var peerAddress: SocketAddress? { get }
  /// Our own address of the connection.
  var localAddress: SocketAddress? { get }
  /// Whether it is inside TLS.
  var isSecure: Bool { get }
  /// What TLS has settled; nil without TLS.
  var tlsInfo: TLSInfo? { get }
  /// Whether the system has what `sendAtOnce` has taken. Default: false, it may be queued here.
  var sendsToSystem: Bool { get }
}

extension TransportDescribing {
  package var isSecure: Bool { false }
  package var tlsInfo: TLSInfo? { nil }
  package var sendsToSystem: Bool { false }
}
