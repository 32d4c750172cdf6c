import SluiceStreams
import SystemPackage

/// Which ciphers and curves are spoken where the options name none.
public enum TLSProfile: String, Sendable, Hashable, CaseIterable {
  /// Mozilla's intermediate one: ECDHE with an authenticated cipher (AES-GCM or ChaCha20-Poly1305), on X25519, P-256 or P-384. Every browser
  /// and library of the last ten years speaks that.
  case intermediate
  /// What OpenSSL and the system's openssl.cnf allow, for older peers: RSA key exchange, CBC and other curves too.
  case system
}

/// PEM text or a file that holds it.
public enum PEMSource: Sendable, Hashable {
  case file(FilePath)
  case bytes(Bytes)
}

/// What a side shows for itself: a certificate with those of its issuers, and its private key.
public enum TLSIdentity: Sendable, Hashable {
  /// The certificate first, then its issuers' in order (the root may be left out), all in one PEM; and the key.
  /// - Parameter passphrase: Of an encrypted key.
  case pem(certificates: PEMSource, key: PEMSource, passphrase: String? = nil)
  /// All of it in one PKCS#12 file.
  case pkcs12(Bytes, passphrase: String)
}

/// Whose certificates are trusted.
public enum TLSTrust: Sendable, Hashable {
  /// The system's roots.
  case system
  /// These roots and no others: a file of PEM, a folder as `openssl rehash` makes it, or PEM text.
  case file(FilePath)
  case folder(FilePath)
  case bytes(Bytes)
  /// Anybody's, and for any name: whoever is on the way can read and change everything. For tests on one machine.
  case insecureNoVerification
}

/// What both sides can choose.
public struct TLSCommonOptions: Sendable, Hashable {
  /// The oldest version to speak. Default: 1.2.
  public var minimumVersion = TLSVersion.tls12
  /// The newest version to speak. Default: 1.3.
  public var maximumVersion = TLSVersion.tls13
  /// What `ciphers` and `groups` are where they are nil. Default: intermediate.
  public var profile = TLSProfile.intermediate
  /// Cipher suites of TLS 1.2, in OpenSSL's notation (`openssl ciphers`). Default: nil, the profile's.
  public var ciphers: String?
  /// Cipher suites of TLS 1.3, separated by colons. Default: nil, the system's choice.
  public var cipherSuites: String?
  /// Groups for the key exchange, separated by colons ("X25519:P-256"). Default: nil, the profile's.
  public var groups: String?
  /// Application protocols (ALPN, RFC 7301), the preferred one first; each has 1 to 255 bytes. Default: none.
  public var applicationProtocols: [String] = []
  /// A file that the keys of each connection are appended to, for Wireshark (the NSS key log format). Whoever reads it can read the
  /// connections. Default: none.
  public var keyLog: FilePath?
  /// Whether the system may encrypt what is sent (kernel TLS), on a TCP connection whose cipher it knows.
  /// It does so in TLS 1.2, and in TLS 1.3 where it can change keys when the peer asks for that (Linux 6.14). What is received is
  /// always OpenSSL's. Default: true, which changes nothing where the system can't.
  public var allowsKernel = true

  init() {}
}

extension TLSProfile {
  /// https://wiki.mozilla.org/Security/Server_Side_TLS, without its two suites of DHE.
  var ciphers: String? {
    switch self {
    case .intermediate:
      """
      ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
      ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305
      """
    case .system: nil
    }
  }

  var groups: String? {
    switch self {
    case .intermediate: "X25519:P-256:P-384"
    case .system: nil
    }
  }
}

/// How a client uses TLS.
@dynamicMemberLookup
public struct TLSClientOptions: Sendable, Hashable {
  public var common = TLSCommonOptions()
  /// Whom to trust. Default: the system's roots.
  public var trust = TLSTrust.system
  /// What to show when the server asks for a certificate. Default: nothing.
  public var identity: TLSIdentity?
  /// The name to ask for and to verify, if it is not the one that was connected to.
  public var serverName: String?
  /// Time for the handshake. Default: 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)

  public init() {}

  public subscript<Value>(dynamicMember path: WritableKeyPath<TLSCommonOptions, Value>) -> Value {
    get { common[keyPath: path] }
    set { common[keyPath: path] = newValue }
  }
}

/// How a server uses TLS.
@dynamicMemberLookup
public struct TLSServerOptions: Sendable, Hashable {
  public var common = TLSCommonOptions()
  /// The certificates, one or more. The one is shown whose names have the name that the client asks for (SNI); the first if none has.
  public var identities: [TLSIdentity]
  /// OCSP responses in DER to staple (RFC 6066 §8), in the order of `identities`; nil for a certificate that has none, and fewer than there
  /// are certificates will do. Default: none.
  public var ocspResponses: [Bytes?] = []
  /// The stapled response of the first certificate.
  public var ocspResponse: Bytes? {
    get { ocspResponses.first ?? nil }
    set { ocspResponses = [newValue] + ocspResponses.dropFirst() }
  }
  /// Whether clients are asked for a certificate, and whose. Default: no.
  public var clientCertificates = ClientCertificates.none
  /// Time for the handshake, from its beginning, however slowly the client's bytes come. Default: 10 seconds.
  public var handshakeTimeout: Duration = .seconds(10)

  public enum ClientCertificates: Sendable, Hashable {
    case none
    /// A client may show one; if it does, it must be trusted.
    case optional(TLSTrust)
    case required(TLSTrust)
  }

  public init(_ identities: TLSIdentity...) {
    self.identities = identities
  }

  public subscript<Value>(dynamicMember path: WritableKeyPath<TLSCommonOptions, Value>) -> Value {
    get { common[keyPath: path] }
    set { common[keyPath: path] = newValue }
  }
}
