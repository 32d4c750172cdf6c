import CSluiceOpenSSL
import SluiceStreams
import Synchronization

/// A server's certificates, for many connections.
///
/// ```swift
/// let context = try TLSServerContext(TLSServerOptions(.pem(certificates: .file("cert.pem"), key: .file("key.pem"))))
/// let stream = try await context.accept(over: socket)
/// ```
public final class TLSServerContext: Sendable {
  private let current: Mutex<ServerCertificates>

  /// Reads the files that the options name.
  /// - Throws: `TLSError.invalidOption`.
  public init(_ options: TLSServerOptions) throws(TLSError) {
    current = Mutex(try ServerCertificates(options))
  }

  /// Uses other options, and reads their files anew, for connections from now on; those that there are go on.
  /// - Throws: `TLSError.invalidOption`; the options of before stay then.
  public func reload(_ options: TLSServerOptions) throws(TLSError) {
    let loaded = try ServerCertificates(options)
    current.withLock { $0 = loaded }
  }

  public var options: TLSServerOptions { certificates.options }

  var certificates: ServerCertificates { current.withLock { $0 } }
}

/// The contexts of one reading of the options: one for each certificate.
@safe final class ServerCertificates: @unchecked Sendable {  // never changes
  let options: TLSServerOptions
  private let identities: [Identity]
  private let handles: [ContextHandle]

  init(_ options: TLSServerOptions) throws(TLSError) {
    self.options = options
    var identities: [Identity] = []
    var handles: [ContextHandle] = []
    for identity in options.identities {
      let loaded = try Identity.load(identity)
      let handle = try unsafe ContextHandle(TLS_server_method(), options.common)
      try handle.use(loaded)
      handle.chooseProtocol()
      try Self.askClients(options.clientCertificates, handle)
      // RFC 5077: tickets of one server are not another's.
      unsafe SSL_CTX_set_session_id_context(handle.pointer, "sluice", 6)
      identities.append(loaded)
      handles.append(handle)
    }
    if handles.isEmpty { throw .invalidOption("certificates", reason: "a server needs at least one") }
    try Self.check(options.ocspResponses, certificateCount: handles.count)
    self.identities = identities
    self.handles = handles
    let argument = unsafe Unmanaged.passUnretained(self).toOpaque()
    unsafe sluice_SSL_CTX_set_tlsext_servername_callback(
      handles[0].pointer,
      { ssl, _, argument in
        guard let argument = unsafe argument else { return SSL_TLSEXT_ERR_NOACK }
        return unsafe Unmanaged<ServerCertificates>.fromOpaque(argument).takeUnretainedValue().choose(ssl)
      }, argument)
    for (handle, response) in zip(handles, options.ocspResponses) where response != nil {
      unsafe sluice_SSL_CTX_set_tlsext_status_cb(
        handle.pointer,
        { ssl, argument in
          guard let argument = unsafe argument else { return SSL_TLSEXT_ERR_NOACK }
          return unsafe Unmanaged<ServerCertificates>.fromOpaque(argument).takeUnretainedValue().staple(ssl)
        }, argument)
    }
  }

  var handle: ContextHandle { handles[0] }

  private static func askClients(
    _ clients: TLSServerOptions.ClientCertificates, _ handle: ContextHandle
  ) throws(TLSError) {
    let (trust, mode): (TLSTrust, CInt)
    switch clients {
    case .none: return
    case .optional(let wanted): (trust, mode) = (wanted, SSL_VERIFY_PEER)
    case .required(let wanted): (trust, mode) = (wanted, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT)
    }
    let verifies = try handle.trust(trust)
    unsafe SSL_CTX_set_verify(handle.pointer, mode, verifies ? TLSEngine.verifyCallback : { _, _ in 1 })
  }

  /// RFC 6066 §3: another certificate, if its names have the name that the client asks for and the first one's have not.
  private func choose(_ ssl: OpaquePointer?) -> CInt {
    guard let raw = unsafe SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) else { return SSL_TLSEXT_ERR_NOACK }
    // RFC 6066 §3 wants it without the dot of the DNS's root.
    let asked = unsafe String(cString: raw)
    let name = asked.utf8.ends(with: ".") ? asked.utf8.dropLast().text : asked
    if let index = identities.firstIndex(where: { unsafe Certificate(pointer: $0.certificate).isValid(forHost: name) }),
      index > 0
    {
      unsafe SSL_set_SSL_CTX(ssl, handles[index].pointer)
    }
    return SSL_TLSEXT_ERR_OK
  }

  /// Tells at once what a client would only find out later.
  private static func check(_ responses: [Bytes?], certificateCount: Int) throws(TLSError) {
    if responses.count > certificateCount {
      throw .invalidOption(
        "OCSP responses", reason: "\(responses.count) responses for \(certificateCount) certificates")
    }
    for case let response? in responses where !OCSPStaple.isResponse(response) {
      throw .invalidOption("OCSP responses", reason: "invalid DER encoding")
    }
  }

  /// RFC 6066 §8: the response about the certificate that was chosen.
  private func staple(_ ssl: OpaquePointer?) -> CInt {
    guard let chosen = unsafe SSL_get_SSL_CTX(ssl),
      let index = handles.firstIndex(where: { unsafe $0.pointer == chosen }), index < options.ocspResponses.count,
      let response = options.ocspResponses[index], let copy = unsafe sluice_OPENSSL_malloc(response.count)
    else { return SSL_TLSEXT_ERR_NOACK }
    unsafe response.withUnsafeBytes { source in
      if let base = source.baseAddress { unsafe copy.copyMemory(from: base, byteCount: source.count) }
    }
    unsafe sluice_SSL_set_tlsext_status_ocsp_resp(
      ssl, copy.assumingMemoryBound(to: UInt8.self), response.count)
    return SSL_TLSEXT_ERR_OK
  }
}
