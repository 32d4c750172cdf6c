/// A version of TLS. Older ones are never spoken.
public enum TLSVersion: String, Sendable, Hashable, Comparable, CaseIterable {
  case tls12 = "TLSv1.2"
  case tls13 = "TLSv1.3"

  public static func < (left: TLSVersion, right: TLSVersion) -> Bool { left == .tls12 && right == .tls13 }
}

/// What a TLS handshake settled.
public struct TLSInfo: Sendable, Hashable {
  public let version: TLSVersion
  /// The cipher suite, by its IANA name: "TLS_AES_256_GCM_SHA384".
  public let cipher: String
  /// The application protocol agreed upon (ALPN), or nil.
  public let applicationProtocol: String?
  /// The name that the client asked for (SNI), or nil.
  public let serverName: String?
  /// The peer's certificates in DER, its own first; empty if it showed none.
  public let peerCertificates: [Bytes]
  /// The subject of the peer's certificate as RFC 4514 writes it, "CN=alice,O=Example"; nil if it showed none, or one that was not verified.
  public let verifiedSubject: String?
  /// Whether an earlier session was resumed, without certificates.
  public let wasResumed: Bool
  /// The OCSP response that the server stapled, in DER, or nil.
  public let ocspResponse: Bytes?
  /// Whether the system encrypts what is sent (kernel TLS).
  public let isSentByKernel: Bool

  package init(
    version: TLSVersion, cipher: String, applicationProtocol: String?, serverName: String?, peerCertificates: [Bytes],
    verifiedSubject: String?, wasResumed: Bool, ocspResponse: Bytes?, isSentByKernel: Bool
  ) {
    self.version = version
    self.cipher = cipher
    self.applicationProtocol = applicationProtocol
    self.serverName = serverName
    self.peerCertificates = peerCertificates
    self.verifiedSubject = verifiedSubject
    self.wasResumed = wasResumed
    self.ocspResponse = ocspResponse
    self.isSentByKernel = isSentByKernel
  }
}
