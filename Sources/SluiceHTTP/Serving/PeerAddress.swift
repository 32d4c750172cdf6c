import SluiceStreams

/// Where a connection comes from.
package enum PeerAddress: Sendable {
  /// From where its transport says.
  case ofTransport
  /// From where a trusted proxy says; nil if it did not.
  case known(IPAddress?)

  /// On the transport's loop.
  package func address(of transport: any PolledDuplexStream<Bytes, Bytes>) -> IPAddress? {
    switch self {
    case .ofTransport: (transport as? any TransportDescribing)?.peerAddress?.ipAddress
    case .known(let address): address
    }
  }
}

/// What a server knows of a request besides what it says.
package struct RequestContext: Sendable {
  package var peer: PeerAddress
  /// What a route has found in its path.
  package var parameters: [String: String]

  package init(peer: PeerAddress = .ofTransport, parameters: [String: String] = [:]) {
    self.peer = peer
    self.parameters = parameters
  }
}
