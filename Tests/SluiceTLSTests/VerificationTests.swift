import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import Testing

@Suite("ATTACKS 36: certificates", .timeLimit(.minutes(1)))
struct VerificationTests {
  /// Connects, and gives what the client's and the server's sides ended with.
  private func connect(
    _ server: TLSServerContext, _ client: TLSClientContext, name: String = "www.example.com"
  ) async throws -> (client: TLSError?, server: TLSError?) {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    return try await loop.simulate {
      let (near, far) = network.connection()
      let accepting = Task(executorPreference: loop) {
        let stream = try await server.accept(over: far)
        // In TLS 1.3 a client's certificate is looked at when the client has begun already.
        _ = try await stream.read()
        try await stream.close()
      }
      var clientError: TLSError?
      do {
        let stream = try await client.connect(over: near, to: name)
        try await stream.write("hello")
        try await stream.close()
        do { _ = try await stream.read() } catch let error as TLSError where error != .truncated { clientError = error }
      } catch let error as TLSError {
        clientError = error
      }
      let result = await accepting.result
      do {
        try result.get()
        return (clientError, nil)
      } catch {
        return (clientError, error as? TLSError ?? .endedEarly)
      }
    }
  }

  private func failure(
    _ identity: String, name: String = "www.example.com", _ change: (inout TLSClientOptions) -> Void = { _ in }
  ) async throws -> TLSError? {
    let certificates = try await Certificates.load()
    var options = TLSServerOptions(certificates.identity(identity))
    options.ciphers = "DEFAULT:@SECLEVEL=0"
    return try await connect(TLSServerContext(options), certificates.client(change), name: name).client
  }

  @Test("a certificate for the name is accepted: a host, one below a wildcard, an address")
  func accepted() async throws {
    #expect(try await failure("good") == nil)
    #expect(try await failure("good", name: "127.0.0.1") == nil)
    #expect(try await failure("good", name: "::1") == nil)
    #expect(try await failure("wildcard") == nil)
    #expect(try await failure("good", name: "other.name") { $0.serverName = "example.com" } == nil)
  }

  @Test(
    "a certificate for other names is refused, and the error says which",
    arguments: [
      ("wrong-host", "www.example.com", "other.example"), ("good", "127.0.0.2", "127.0.0.1"),
      ("wildcard", "a.b.example.com", "*.example.com"), ("wildcard", "example.com", "*.example.com"),
      ("partial-wildcard", "www.example.com", "w*.example.com"), ("cn-only", "www.example.com", "common name"),
    ])
  func wrongName(_ identity: String, _ name: String, _ words: String) async throws {
    let error = try #require(try await failure(identity, name: name))
    guard case .wrongName(_, let wanted) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(wanted == name)
    #expect(error.description.contains(words) && error.description.contains(name))
  }

  @Test(
    "a certificate that is not to be trusted is refused, each with its own words",
    arguments: [
      ("expired", "expired"), ("self-signed", "self-signed"), ("untrusted", "unable to get local issuer"),
      ("below", "unable to get local issuer"), ("not-for-servers", "purpose"), ("weak", "too weak"),
      ("sha1", "too weak"),
    ])
  func untrusted(_ identity: String, _ words: String) async throws {
    let error = try #require(try await failure(identity))
    guard case .untrusted(let reason, _) = error else {
      Issue.record("\(error)")
      return
    }
    #expect(reason.contains(words), "\(reason)")
  }

  @Test("by its full name alone, verification is switched off")
  func insecure() async throws {
    #expect(try await failure("self-signed") { $0.trust = .insecureNoVerification } == nil)
  }

  @Test("an issuer in between that the server sends is used; so is a PKCS#12 identity, and roots given as bytes")
  func intermediate() async throws {
    let certificates = try await Certificates.load()
    let chain = TLSServerOptions(
      .pem(certificates: .file(certificates.file("below-chain.pem")), key: .file(certificates.file("below.key"))))
    #expect(try await connect(TLSServerContext(chain), certificates.client()).client == nil)
    let archive = try await FileContents.read(certificates.file("below.p12"))
    let root = try await FileContents.read(certificates.file("root.pem"))
    let client = try certificates.client { $0.trust = .bytes(root) }
    let server = try TLSServerContext(TLSServerOptions(.pkcs12(archive, passphrase: "secret")))
    #expect(try await connect(server, client).client == nil)
  }

  @Test(
    "a certificate that its issuer has revoked is refused where the server staples that",
    arguments: ["good", "revoked"])
  func revoked(_ name: String) async throws {
    let certificates = try await Certificates.load()
    let response = try await FileContents.read(certificates.file(name + ".ocsp"))
    let server = try certificates.server(name) { $0.ocspResponse = response }
    let error = try await connect(server, certificates.client()).client
    if name == "good" {
      #expect(error == nil)
    } else {
      #expect(error?.description.contains("revoked") == true, "\(String(describing: error))")
    }
  }

  @Test("each certificate of a server has its own stapled response, chosen with it by the name that is asked for")
  func staplesByName() async throws {
    let certificates = try await Certificates.load()
    var options = TLSServerOptions(certificates.identity("second"), certificates.identity("good"))
    let good = try await FileContents.read(certificates.file("good.ocsp"))
    options.ocspResponses = [nil, good]
    let server = try TLSServerContext(options)
    let client = try certificates.client()
    #expect(try await stapled(server, client, name: "www.example.com") == good)
    #expect(try await stapled(server, client, name: "second.example") == nil)
    options = TLSServerOptions(certificates.identity("second"), certificates.identity("revoked"))
    options.ocspResponses = [nil, try await FileContents.read(certificates.file("revoked.ocsp"))]
    let error = try await connect(TLSServerContext(options), client).client
    #expect(error?.description.contains("revoked") == true, "\(String(describing: error))")
    // One too many, and what is no response.
    options.ocspResponses = [nil, nil, good]
    #expect(throws: TLSError.self) { try TLSServerContext(options) }
    options.ocspResponses = ["no DER"]
    #expect(throws: TLSError.self) { try TLSServerContext(options) }
  }

  /// The response that a client got with the server's certificate.
  private func stapled(_ server: TLSServerContext, _ client: TLSClientContext, name: String) async throws -> Bytes? {
    let loop = SimulatedLoop()
    let network = SimulatedNetwork(loop: loop)
    return try await loop.simulate {
      let (near, far) = network.connection()
      async let accepted = server.accept(over: far)
      let stream = try await client.connect(over: near, to: name)
      _ = try await accepted
      return await stream.info.ocspResponse
    }
  }

  @Test("a client without the certificate that it has to have is refused at both ends")
  func clientCertificates() async throws {
    let certificates = try await Certificates.load()
    let root = TLSTrust.file(certificates.file("root.pem"))
    let required = try certificates.server { $0.clientCertificates = .required(root) }
    let optional = try certificates.server { $0.clientCertificates = .optional(root) }
    let nobody = try certificates.client()
    let known = try certificates.client { $0.identity = certificates.identity("client") }
    let stranger = try certificates.client { $0.identity = certificates.identity("untrusted") }
    var ends = try await connect(required, nobody)
    #expect(ends.server == .noCertificate && ends.client != nil)
    ends = try await connect(required, known)
    #expect(ends.server == nil && ends.client == nil)
    ends = try await connect(required, stranger)
    #expect(ends.server != nil && ends.client != nil)
    ends = try await connect(optional, nobody)
    #expect(ends.server == nil && ends.client == nil)
    ends = try await connect(optional, stranger)
    #expect(ends.server != nil)
  }

  @Test("the dot of the DNS's root is neither asked for nor verified (RFC 6066 §3)")
  func rootDot() async throws {
    #expect(try await failure("good", name: "www.example.com.") == nil)
    #expect(try await failure("good", name: "x") { $0.serverName = "www.example.com." } == nil)
    guard case .wrongName(_, "www.example.com")? = try await failure("wrong-host", name: "www.example.com.") else {
      Issue.record("verified by another name")
      return
    }
  }

  @Test(
    "a name that OpenSSL would take for another, or for any, is refused, trusted or not",
    arguments: ["", ".", "www.example.com\0.evil.example", "\0"], [true, false])
  func namesThatAreNone(name: String, verifies: Bool) async throws {
    for isOption in [true, false] {
      let error = try await failure("good", name: isOption ? "www.example.com" : name) {
        if isOption { $0.serverName = name }
        if !verifies { $0.trust = .insecureNoVerification }
      }
      guard case .invalidOption("server name", _)? = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
  }

  @Test("an alert is told by its name, also those that OpenSSL has none for")
  func alerts() async throws {
    let certificates = try await Certificates.load()
    let server = try certificates.server { $0.clientCertificates = .required(.file(certificates.file("root.pem"))) }
    #expect(try await connect(server, certificates.client()).client == .alert("certificate_required"))
    let old = try certificates.client { $0.maximumVersion = .tls12 }
    #expect(try await connect(server, old).client == .alert("handshake_failure"))
    let modern = try certificates.server { $0.minimumVersion = .tls13 }
    #expect(try await connect(modern, old).client == .alert("protocol_version"))
    let other = try certificates.server { $0.applicationProtocols = ["a"] }
    let wanting = try certificates.client { $0.applicationProtocols = ["b"] }
    #expect(try await connect(other, wanting).client == .alert("no_application_protocol"))
  }

  @Test(
    "the intermediate profile is the default on both sides; older ciphers and other curves are spoken by option",
    arguments: [
      ("ECDHE-RSA-AES128-GCM-SHA256", "P-384", true), ("ECDHE-RSA-CHACHA20-POLY1305", "X25519", true),
      ("ECDHE-RSA-AES256-GCM-SHA384", "P-256", true), ("AES128-GCM-SHA256", "X25519", false),
      ("AES256-SHA", "X25519", false), ("ECDHE-RSA-AES256-SHA384", "X25519", false),
      ("DHE-RSA-AES128-GCM-SHA256", "X25519", false), ("ECDHE-RSA-AES128-GCM-SHA256", "P-521", false),
      ("ECDHE-RSA-AES128-GCM-SHA256", "X448", false),
    ])
  func profiles(ciphers: String, groups: String, isIntermediate: Bool) async throws {
    let certificates = try await Certificates.load()
    let narrow = { (options: inout TLSCommonOptions) in
      options.maximumVersion = .tls12
      options.ciphers = ciphers
      options.groups = groups
    }
    let client = try certificates.client { narrow(&$0.common) }
    let server = try certificates.server("rsa") { narrow(&$0.common) }
    #expect((try await connect(certificates.server("rsa"), client).client == nil) == isIntermediate)
    #expect((try await connect(server, certificates.client()).client == nil) == isIntermediate)
    if ciphers.hasPrefix("DHE") { return }  // a server needs parameters for it
    #expect(try await connect(certificates.server("rsa") { $0.profile = .system }, client).client == nil)
    #expect(try await connect(server, certificates.client { $0.profile = .system }).client == nil)
  }

  @Test(
    "in TLS 1.3 too",
    arguments: [("X25519", true), ("P-256", true), ("P-384", true), ("P-521", false), ("X448", false)])
  func groups(_ group: String, isIntermediate: Bool) async throws {
    let certificates = try await Certificates.load()
    let client = try certificates.client { $0.groups = group }
    #expect((try await connect(certificates.server(), client).client == nil) == isIntermediate)
    #expect(try await connect(certificates.server { $0.profile = .system }, client).client == nil)
  }

  @Test("versions and ciphers that have nothing in common end in an alert")
  func noCommonVersion() async throws {
    let certificates = try await Certificates.load()
    let modern = try certificates.server { $0.minimumVersion = .tls13 }
    let old = try certificates.client { $0.maximumVersion = .tls12 }
    let ends = try await connect(modern, old)
    #expect(ends.client != nil && ends.server != nil)
  }

  @Test("options that can't be used say which and why")
  func options() async throws {
    let certificates = try await Certificates.load()
    func message(_ change: (inout TLSClientOptions) -> Void) -> String {
      do {
        _ = try certificates.client(change)
        return ""
      } catch {
        return "\(error)"
      }
    }
    #expect(message { $0.trust = .file("/nowhere") }.contains("/nowhere"))
    #expect(message { $0.trust = .bytes("no PEM") }.contains("no PEM certificate"))
    #expect(message { $0.ciphers = "NONSENSE" }.contains("NONSENSE"))
    #expect(message { $0.groups = "X25519:NONSENSE" }.contains("NONSENSE"))
    #expect(message { $0.applicationProtocols = [""] }.contains("0 bytes"))
    #expect(message { $0.applicationProtocols = [String(repeating: "a", count: 256)] }.contains("256 bytes"))
    let encrypted = certificates.file("good-encrypted.key")
    let good = certificates.file("good.pem")
    func identity(_ key: PEMSource, _ passphrase: String? = nil) -> String {
      message { $0.identity = .pem(certificates: .file(good), key: key, passphrase: passphrase) }
    }
    #expect(identity(.file(encrypted)).contains("passphrase"))
    #expect(identity(.file(encrypted), "wrong").contains("private key"))
    #expect(identity(.file(encrypted), "secret") == "")
    #expect(identity(.file(certificates.file("second.key"))).contains("does not match the certificate"))
    #expect(!identity(.file(encrypted), "wrong").contains("wrong "))
  }
}
