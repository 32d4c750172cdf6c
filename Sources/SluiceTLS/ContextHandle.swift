import CSluiceOpenSSL
import SluiceStreams

/// OpenSSL's context: what many connections share.
@safe final class ContextHandle: @unchecked Sendable {  // OpenSSL's contexts are shared by threads once they are set up
  let pointer: OpaquePointer
  /// The preferred application protocols as they are sent: each behind its length. OpenSSL points into it.
  private let protocols: UnsafeMutableBufferPointer<UInt8>
  private let keyLog: KeyLog?

  init(_ method: OpaquePointer?, _ options: TLSCommonOptions) throws(TLSError) {
    OpenSSLError.clear()
    let encoded = try Self.encode(options.applicationProtocols)
    keyLog = if let path = options.keyLog { try KeyLog(path) } else { nil }
    guard let context = unsafe SSL_CTX_new(method) else { throw .protocol(OpenSSLError.takeReason()) }
    unsafe pointer = context
    unsafe protocols = .allocate(capacity: encoded.count)
    _ = unsafe protocols.initialize(fromContentsOf: encoded)
    unsafe sluice_SSL_CTX_harden(context)
    guard options.minimumVersion <= options.maximumVersion else {
      throw .invalidOption("TLS versions", reason: "the minimum is above the maximum")
    }
    unsafe sluice_SSL_CTX_set_versions(context, options.minimumVersion.number, options.maximumVersion.number)
    if let ciphers = options.ciphers ?? options.profile.ciphers, unsafe SSL_CTX_set_cipher_list(context, ciphers) != 1 {
      throw .invalidOption("cipher list", reason: "OpenSSL supports none of '\(ciphers)'")
    }
    if let suites = options.cipherSuites, unsafe SSL_CTX_set_ciphersuites(context, suites) != 1 {
      throw .invalidOption("cipher suites", reason: "OpenSSL supports none of '\(suites)'")
    }
    if let groups = options.groups ?? options.profile.groups, unsafe sluice_SSL_CTX_set_groups(context, groups) != 1 {
      throw .invalidOption("groups", reason: "OpenSSL does not support all of '\(groups)'")
    }
    if let keyLog { unsafe SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(keyLog).toOpaque()) }
    if keyLog != nil || options.allowsKernel {
      unsafe SSL_CTX_set_keylog_callback(context) { ssl, line in
        guard let ssl = unsafe ssl, let line = unsafe line else { return }
        unsafe TLSEngine.of(ssl)?.note(line)
        guard let log = unsafe SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), 0) else { return }
        unsafe Unmanaged<KeyLog>.fromOpaque(log).takeUnretainedValue().append(String(cString: line))
      }
    }
  }

  deinit {
    unsafe SSL_CTX_free(pointer)
    unsafe protocols.deallocate()
  }

  private static func encode(_ protocols: [String]) throws(TLSError) -> [UInt8] {
    var encoded: [UInt8] = []
    for name in protocols {
      guard let count = UInt8(exactly: name.utf8.count), count > 0 else {
        throw .invalidOption(
          "application protocol '\(name)'", reason: "\(name.utf8.count) bytes long (expected 1–255)")
      }
      encoded.append(count)
      encoded += name.utf8
    }
    return encoded
  }

  /// RFC 7301 §3.1: what a client offers.
  func offerProtocols() {
    if unsafe protocols.isEmpty { return }
    unsafe SSL_CTX_set_alpn_protos(pointer, protocols.baseAddress, UInt32(protocols.count))
  }

  /// RFC 7301 §3.2: the server's first that the client offers; if there is none, the handshake fails.
  func chooseProtocol() {
    if unsafe protocols.isEmpty { return }
    unsafe SSL_CTX_set_alpn_select_cb(
      pointer,
      { _, chosen, chosenCount, offered, offeredCount, argument in
        guard let argument = unsafe argument else { return SSL_TLSEXT_ERR_NOACK }
        let own = unsafe Unmanaged<ContextHandle>.fromOpaque(argument).takeUnretainedValue().protocols
        var found: UnsafeMutablePointer<UInt8>?
        let result = unsafe SSL_select_next_proto(
          &found, chosenCount, own.baseAddress, UInt32(own.count), offered, offeredCount)
        unsafe chosen?.pointee = unsafe UnsafePointer(found)
        return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  func use(_ identity: Identity) throws(TLSError) {
    guard unsafe SSL_CTX_use_certificate(pointer, identity.certificate) == 1,
      unsafe SSL_CTX_use_PrivateKey(pointer, identity.key) == 1
    else { throw .invalidOption("certificate", reason: OpenSSLError.takeReason()) }
    for index in unsafe identity.issuers.indices {
      let issuer = unsafe identity.issuers[index]
      guard unsafe sluice_SSL_CTX_add1_chain_cert(pointer, issuer) == 1 else {
        throw .invalidOption("issuers of the certificate", reason: OpenSSLError.takeReason())
      }
    }
  }

  /// - Returns: whether the peer's certificate is to be verified.
  func trust(_ trust: TLSTrust) throws(TLSError) -> Bool {
    switch trust {
    case .insecureNoVerification: return false
    case .system:
      unsafe SSL_CTX_set_default_verify_paths(pointer)
    case .file(let path):
      guard unsafe SSL_CTX_load_verify_file(pointer, path.string) == 1 else {
        throw .invalidOption("trusted certificates", reason: "can't load \(path): \(OpenSSLError.takeReason())")
      }
    case .folder(let path):
      guard unsafe SSL_CTX_load_verify_dir(pointer, path.string) == 1 else {
        throw .invalidOption("trusted certificates", reason: "can't load \(path): \(OpenSSLError.takeReason())")
      }
    case .bytes(let bytes):
      let roots = unsafe try Identity.certificates(.bytes(bytes), option: "trusted certificates")
      defer { unsafe Certificate.free(roots) }
      if unsafe roots.isEmpty {
        throw .invalidOption("trusted certificates", reason: "no PEM certificate in the given bytes")
      }
      let store = unsafe SSL_CTX_get_cert_store(pointer)
      for index in unsafe roots.indices { unsafe X509_STORE_add_cert(store, roots[index]) }
    }
    return true
  }
}

extension TLSVersion {
  fileprivate var number: CInt {
    switch self {
    case .tls12: TLS1_2_VERSION
    case .tls13: TLS1_3_VERSION
    }
  }
}
