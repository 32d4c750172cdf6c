import ArgumentParser
import Sluice
import SluiceClient
import SluiceTLS

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What the command line says of TLS, proxies and credentials.
struct SecurityOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("As a server, use the certificate chain in this PEM file, leaf first.", valueName: "FILE"),
    completion: .file())
  var cert: String?

  @Option(
    help: ArgumentHelp(
      "The private key for --cert or --client-cert; defaults to the same file. SLUICE_KEY_PASSPHRASE holds the passphrase of an encrypted key.",
      valueName: "FILE"), completion: .file())
  var key: String?

  @Option(
    help: ArgumentHelp(
      "Trust only the certificates in this PEM file. As a server, require client certificates signed by them.",
      valueName: "FILE"), completion: .file())
  var ca: String?

  @Option(
    help: ArgumentHelp("As a client, use this certificate (PEM) if the server requests one.", valueName: "FILE"),
    completion: .file())
  var clientCert: String?

  @Flag(help: "Do not verify the server's certificate: anyone on the network path can read and change everything.")
  var insecure = false

  @Option(help: ArgumentHelp("The server name to request (SNI) and verify instead of the host.", valueName: "NAME"))
  var sni: String?

  @Option(
    help: ArgumentHelp(
      "Offer an application protocol (ALPN), or as a server accept it; may be repeated.", valueName: "NAME"))
  var alpn: [String] = []

  @Option(
    help: ArgumentHelp(
      "Ciphers and curves: 'intermediate' (ECDHE with AES-GCM or ChaCha20, on X25519, P-256 and P-384), or whatever the 'system' allows, for old peers.",
      valueName: "intermediate|system"), completion: .list(["intermediate", "system"]))
  var tlsProfile = TLSProfile.intermediate

  @Option(
    help: ArgumentHelp(
      "Connect through a proxy: http://, https:// or socks5://[USER:PASSWORD@]HOST[:PORT], or 'none'. By default, http_proxy, https_proxy, all_proxy and no_proxy apply, except to tcp: and tls:.",
      valueName: "URL"))
  var proxy: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Follow up to N redirects. Default: 0 for a WebSocket, 5 for http: (but none as TARGET).", valueName: "N"))
  var followRedirects: Int?

  @Option(
    help: ArgumentHelp(
      "Require these credentials, as a server of WebSockets or events; otherwise send them. SLUICE_BASIC_AUTH does the same without showing them in the process list.",
      valueName: "USER:PASSWORD"))
  var basicAuth: String?

  func validate() throws {
    if key != nil && cert == nil && clientCert == nil {
      throw ValidationError("--key requires --cert or --client-cert.")
    }
    if let followRedirects, followRedirects < 0 {
      throw ValidationError("--follow-redirects must be 0 or more, not \(followRedirects).")
    }
  }

  private static func environment(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
  }

  private func identity(_ certificate: String) -> TLSIdentity {
    .pem(
      certificates: .file(FilePath(certificate)), key: .file(FilePath(key ?? certificate)),
      passphrase: Self.environment("SLUICE_KEY_PASSPHRASE"))
  }

  /// A context of its own only where something is asked for.
  func client() throws -> TLSClientContext? {
    var options = TLSClientOptions()
    if let ca { options.trust = .file(FilePath(ca)) }
    if insecure { options.trust = .insecureNoVerification }
    if let clientCert { options.identity = identity(clientCert) }
    options.serverName = sni
    options.profile = tlsProfile
    options.applicationProtocols = alpn
    options.keyLog = Self.environment("SSLKEYLOGFILE").map { FilePath($0) }
    return options == TLSClientOptions() ? nil : try TLSClientContext(options)
  }

  func server() throws -> TLSServerContext {
    guard let cert else { throw UsageError("a TLS server needs a certificate: --cert FILE, and --key FILE") }
    var options = TLSServerOptions(identity(cert))
    if let ca { options.clientCertificates = .required(.file(FilePath(ca))) }
    options.profile = tlsProfile
    options.applicationProtocols = alpn
    options.keyLog = Self.environment("SSLKEYLOGFILE").map { FilePath($0) }
    return try TLSServerContext(options)
  }

  func proxyChoice() throws -> ProxyChoice {
    guard let proxy else { return .environment }
    return proxy == "none" ? .none : .through(try Proxy(proxy))
  }

  /// What becomes of the credentials between these endpoints.
  func credentials(_ source: Endpoint, _ target: Endpoint) throws(UsageError) -> CredentialUse {
    let variable = "SLUICE_BASIC_AUTH"
    guard let text = basicAuth ?? Self.environment(variable) else { return .none }
    let name = basicAuth == nil ? variable : "--basic-auth"
    let isAsked = source.isHTTPServer || target.isHTTPServer
    let clients = [source, target].filter(\.isHTTPClient)
    if !isAsked {
      // The variable may be there for another program, but not where something is served that it does not protect.
      guard !clients.isEmpty else {
        guard source.isListener else { return .none }
        throw UsageError(
          "\(source.name) can't require the credentials in \(variable); listen+ws:, listen+wss: and listen+sse+http: can"
        )
      }
      if let endpoint = clients.first(where: \.hasCredentials) {
        // What is said of this one endpoint goes before what the environment says of all.
        if basicAuth == nil { return .none }
        throw UsageError("the URL of \(endpoint.name) already has credentials; --basic-auth conflicts with them")
      }
    }
    guard let credentials = BasicCredentials(text) else {
      throw UsageError("\(name) must have the form 'USER:PASSWORD'")
    }
    return isAsked ? .asked(credentials) : .sent(credentials)
  }
}

extension TLSProfile: ExpressibleByArgument {}

/// Credentials of the command line.
enum CredentialUse {
  case none
  /// Clients must have them.
  case asked(BasicCredentials)
  /// Servers are given them.
  case sent(BasicCredentials)

  var asked: BasicCredentials? { if case .asked(let credentials) = self { credentials } else { nil } }

  /// - Throws: `RequestRejection` if they are asked for and a request does not have them.
  func check(_ request: HTTPRequest) throws(RequestRejection) {
    if case .asked(let credentials) = self, !credentials.matches(request) { throw .unauthorized(realm: "sluice") }
  }
}
