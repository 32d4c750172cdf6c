import SluiceStreams

extension CGIVariables {
  /// Adds what a server knows of a connection besides its request: addresses, and what TLS has settled. On the transport's loop.
  ///
  /// - Parameter remoteAddress: Where it comes from as far as that is to be believed, if that is not the transport's peer.
  package mutating func add(
    _ transport: any PolledDuplexStream<Bytes, Bytes>, from remoteAddress: IPAddress? = nil
  ) {
    let transport = transport as? any TransportDescribing
    if let tls = transport?.tlsInfo { add(tls) }
    let peer = transport?.peerAddress
    // A trusted proxy's own port says nothing of whom it speaks for.
    let isDirect = remoteAddress == nil || remoteAddress == peer?.ipAddress
    self["REMOTE_ADDR"] = (isDirect ? peer?.ipAddress : remoteAddress)?.description
    self["REMOTE_PORT"] = isDirect ? peer.map { "\($0.port)" } : nil
    guard let own = transport?.localAddress else { return }
    self["SERVER_ADDR"] = own.host
    self["SERVER_PORT"] = "\(own.port)"
    if self["SERVER_NAME"] == nil { self["SERVER_NAME"] = own.host }
  }

  /// A proxy that is to be believed did not say whom it speaks for: not for itself.
  package mutating func removeRemoteAddress() {
    self["REMOTE_ADDR"] = nil
    self["REMOTE_PORT"] = nil
  }

  private mutating func add(_ tls: TLSInfo) {
    self["HTTPS"] = "on"
    self["SSL_PROTOCOL"] = tls.version.rawValue
    self["SSL_CIPHER"] = tls.cipher
    self["SSL_TLS_SNI"] = tls.serverName
    self["SSL_CLIENT_VERIFY"] = tls.verifiedSubject == nil ? "NONE" : "SUCCESS"
    self["SSL_CLIENT_S_DN"] = tls.verifiedSubject
  }
}
