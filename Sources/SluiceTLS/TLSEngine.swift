import CSluiceOpenSSL
import SluiceStreams

/// One connection's TLS without any I/O: bytes of the network in and out on one side, plain bytes on the other.
@safe final class TLSEngine: @unchecked Sendable {  // used on its connection's loop only
  private let ssl: OpaquePointer
  /// What is used of them has to stay: OpenSSL calls back into it.
  private let keptAlive: AnyObject
  private let wantedName: String
  private let sessions: SessionCache?
  private let verifiesStaple: Bool
  private let allowsKernel: Bool
  private var verifyFailure: TLSError?

  /// What came from the network and OpenSSL has not taken.
  private var input = Bytes()
  /// What is to be sent to the network.
  var output = BytesBuilder()
  /// Where the system may make the records that are sent, or does.
  private var kernel: KernelSending?

  /// A client's.
  init(_ context: TLSClientContext, to name: String) throws(TLSError) {
    let name = try Self.serverName(context.options.serverName ?? name)
    guard let ssl = unsafe SSL_new(context.handle.pointer) else { throw .protocol(OpenSSLError.takeReason()) }
    unsafe self.ssl = ssl
    keptAlive = context
    wantedName = name
    sessions = context.sessions
    verifiesStaple = context.verifies
    allowsKernel = context.options.allowsKernel
    attach()
    unsafe SSL_set_connect_state(ssl)
    unsafe sluice_SSL_request_ocsp(ssl)
    let isAddress = try askFor(wantedName)
    guard context.verifies else { return }
    unsafe SSL_set_verify(ssl, SSL_VERIFY_PEER, TLSEngine.verifyCallback)
    // RFC 9525 §6.3: a wildcard is a whole label; the common name does not count.
    let flags = UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
    unsafe SSL_set_hostflags(ssl, flags)
    let isSet =
      isAddress
      ? unsafe X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), wantedName) : unsafe SSL_set1_host(ssl, wantedName)
    guard isSet == 1 else { throw .invalidOption("server name", reason: "invalid name '\(wantedName)'") }
  }

  /// A name as it is asked for and verified: without the dot of the DNS's root (RFC 6066 §3).
  private static func serverName(_ name: String) throws(TLSError) -> String {
    let name = name.utf8.ends(with: ".") ? name.utf8.dropLast().text : name
    // OpenSSL takes an empty name for any, and one with a NUL for what stands before that.
    guard !name.isEmpty, !name.utf8.contains(0) else {
      throw .invalidOption("server name", reason: name.isEmpty ? "empty" : "contains a NUL byte")
    }
    return name
  }

  /// A server's.
  init(_ certificates: ServerCertificates) throws(TLSError) {
    guard let ssl = unsafe SSL_new(certificates.handle.pointer) else { throw .protocol(OpenSSLError.takeReason()) }
    unsafe self.ssl = ssl
    keptAlive = certificates
    wantedName = ""
    sessions = nil
    verifiesStaple = false
    allowsKernel = certificates.options.allowsKernel
    attach()
    unsafe SSL_set_accept_state(ssl)
  }

  deinit { unsafe SSL_free(ssl) }

  private func attach() {
    unsafe SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    _ = unsafe EngineBIO.attach(ssl, to: self)
  }

  static func of(_ ssl: OpaquePointer?) -> TLSEngine? {
    guard let data = unsafe SSL_get_ex_data(ssl, 0) else { return nil }
    return unsafe Unmanaged<TLSEngine>.fromOpaque(data).takeUnretainedValue()
  }

  /// Names the server that is wanted (RFC 6066 §3: not by an address), and takes up an earlier session with it.
  /// - Returns: whether the name is an address.
  private func askFor(_ name: String) throws(TLSError) -> Bool {
    let isAddress: Bool
    if let address = unsafe a2i_IPADDRESS(name) {
      unsafe ASN1_OCTET_STRING_free(address)
      isAddress = true
    } else {
      OpenSSLError.clear()
      isAddress = false
      guard unsafe sluice_SSL_set_tlsext_host_name(ssl, name) == 1 else {
        throw .invalidOption("server name", reason: "invalid name '\(name)'")
      }
    }
    if let session = unsafe sessions?.take(for: name) {
      unsafe SSL_set_session(ssl, session)
      unsafe SSL_SESSION_free(session)
    }
    return isAddress
  }

  func keep(_ session: OpaquePointer) -> Bool { unsafe sessions?.add(session, for: wantedName) ?? false }

  // MARK: the network's side

  /// Takes bytes of the network; those before were taken by OpenSSL.
  func feed(_ bytes: consuming Bytes) { input = input.followed(by: bytes) }

  /// Whether there are bytes of the network that have not become plain bytes. Without them, `read` would only be told to wait, for the
  /// price of a buffer that OpenSSL allocates and frees.
  var hasInput: Bool { unsafe !input.isEmpty || SSL_has_pending(ssl) == 1 }

  func takeInput(_ target: UnsafeMutableRawBufferPointer) -> Int {
    let count = Swift.min(target.count, input.count)
    if count == 0 { return 0 }
    unsafe input.withUnsafeBytes { source in
      unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<count]))
    }
    // What is used up lets go of the network's buffer.
    input = count == input.count ? Bytes() : input.dropFirst(count)
    return count
  }

  func giveOutput(_ source: UnsafeRawBufferPointer) {
    guard let kernel, kernel.hasBegun else { return unsafe output.append(Span(_unsafeBytes: source)) }
    var record = BytesBuilder()
    unsafe record.append(Span(_unsafeBytes: source))
    unsafe kernel.push(record.take(), digest: SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl)))
  }

  /// Bytes that wait in `output`, and those that the system's records have got since that was last taken.
  var unsentByteCount: Int { output.count + (kernel?.pushedByteCount ?? 0) }

  /// What is to be sent to the network, moved out.
  func takeOutput() -> BytesBuilder {
    kernel?.pushedByteCount = 0
    return output.move()
  }

  // MARK: the system's records

  /// Lets the system make the records that are sent, if it can. Before the handshake.
  func offerKernel(of transport: any PolledDuplexStream<Bytes, Bytes>) {
    guard allowsKernel, let encrypting = transport as? any RecordEncrypting, encrypting.encryptionSupport != .none
    else {
      return
    }
    kernel = unsafe KernelSending(encrypting, isServer: SSL_is_server(ssl) == 1)
    unsafe sluice_SSL_enable_ktls(ssl)
  }

  /// Whether plain bytes go to the transport as they are.
  var isSendingByKernel: Bool { kernel?.hasBegun == true }

  /// - Parameter keys: As OpenSSL has encoded them for the system.
  func sendByKernel(with keys: UnsafeRawPointer) -> Bool {
    guard let kernel, let keys = unsafe KernelKeys(keys) else { return false }
    return kernel.begin(keys, behind: takeOutput())
  }

  func setKernelRecordType(_ type: Int) {
    if let type = UInt8(exactly: type) { kernel?.recordType = type }
  }

  /// - Parameter line: Of the key log.
  func note(_ line: UnsafePointer<CChar>) {
    if let kernel { unsafe kernel.note(keyLogLine: String(cString: line)) }
  }

  // MARK: the plain side

  enum Progress {
    case done
    case wantsInput
    /// The peer has sent close_notify.
    case closed
  }

  func handshake() throws(TLSError) -> Progress {
    OpenSSLError.clear()
    let result = unsafe SSL_do_handshake(ssl)
    if result == 1 {
      if !isSendingByKernel { kernel = nil }
      if verifiesStaple { unsafe try OCSPStaple.check(unsafe ssl) }
      return .done
    }
    return try progress(after: result)
  }

  /// Decrypts into the room that `plain` has.
  /// - Returns: `done` if there may be more.
  func read(into plain: inout BytesBuilder, upTo room: Int) throws(TLSError) -> Progress {
    OpenSSLError.clear()
    var result: CInt = 0
    unsafe plain.appendInitializing(upTo: room) { target in
      var count = 0
      result = unsafe SSL_read_ex(ssl, target, room, &count)
      return result == 1 ? count : 0
    }
    let progress = result == 1 ? .done : try progress(after: result)
    if isSendingByKernel, unsafe SSL_get_key_update_type(ssl) != SSL_KEY_UPDATE_NONE { answerKeyUpdate() }
    return progress
  }

  /// OpenSSL answers before the next data that it sends, of which there is none where the system makes the records.
  private func answerKeyUpdate() {
    var count = 0
    unsafe SSL_write_ex(ssl, "", 0, &count)
    OpenSSLError.clear()
  }

  /// Encrypts; all of it goes to `output`.
  func write(_ plain: Span<UInt8>) throws(TLSError) {
    OpenSSLError.clear()
    var result: CInt = 1
    unsafe plain.withUnsafeBytes { source in
      guard let base = source.baseAddress, source.count > 0 else { return }
      var count = 0
      result = unsafe SSL_write_ex(ssl, base, source.count, &count)
    }
    if result == 1 { return }
    // Writing never waits for the peer: there is no renegotiation.
    _ = try progress(after: result)
    throw .protocol("the data could not be encrypted")
  }

  /// RFC 8446 §4.6.3: changes the keys of this half, and asks for the other's to be changed.
  func updateKeys() throws(TLSError) {
    OpenSSLError.clear()
    guard unsafe SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 else { throw .protocol(OpenSSLError.takeReason()) }
    let result = unsafe SSL_do_handshake(ssl)
    if result != 1 { _ = try progress(after: result) }
  }

  /// RFC 8446 §6.1: says that nothing more is sent.
  func sendCloseNotify() {
    OpenSSLError.clear()
    unsafe SSL_shutdown(ssl)
    OpenSSLError.clear()
  }

  // MARK: results

  private func progress(after result: CInt) throws(TLSError) -> Progress {
    switch unsafe SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: return .wantsInput
    case SSL_ERROR_ZERO_RETURN: return .closed
    default:
      let failure = OpenSSLError.takeLast()
      if let verifyFailure { throw verifyFailure }
      if failure.reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE { throw .noCertificate }
      // OpenSSL's numbers of the peer's alerts: 1000 and the alert's own (RFC 8446 §6).
      if failure.reason > SSL_AD_REASON_OFFSET, failure.reason < SSL_AD_REASON_OFFSET + 256 {
        throw .alert(TLSAlert.name(failure.reason - SSL_AD_REASON_OFFSET))
      }
      throw .protocol(failure.text)
    }
  }

  /// Says, in words for people, why a certificate is refused; OpenSSL's own alert tells the peer.
  static let verifyCallback: @convention(c) (CInt, OpaquePointer?) -> CInt = { isGood, store in
    if isGood == 1 { return 1 }
    guard let store = unsafe store,
      let engine = unsafe TLSEngine.of(
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()).map { OpaquePointer($0) })
    else { return 0 }
    let code = unsafe X509_STORE_CTX_get_error(store)
    if code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH {
      let names = unsafe X509_STORE_CTX_get0_cert(store).map { unsafe Certificate(pointer: $0).names } ?? []
      engine.verifyFailure = .wrongName(names: names, wanted: engine.wantedName)
    } else {
      let reason = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
      let subject = unsafe X509_STORE_CTX_get_current_cert(store).map { unsafe Certificate(pointer: $0).subject } ?? ""
      engine.verifyFailure = .untrusted(reason: reason, subject: subject)
    }
    return 0
  }

  /// What the handshake settled.
  func info() -> TLSInfo {
    var name: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    unsafe SSL_get0_alpn_selected(ssl, &name, &count)
    let applicationProtocol = unsafe name.map { start in
      unsafe String(decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
    }
    let cipher = unsafe SSL_CIPHER_standard_name(SSL_get_current_cipher(ssl)).map { unsafe String(cString: $0) }
    return unsafe TLSInfo(
      version: SSL_version(ssl) == TLS1_3_VERSION ? .tls13 : .tls12, cipher: cipher ?? "",
      applicationProtocol: applicationProtocol,
      serverName: SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { unsafe String(cString: $0) },
      peerCertificates: peerCertificates(), verifiedSubject: verifiedSubject, wasResumed: SSL_session_reused(ssl) == 1,
      ocspResponse: OCSPStaple.response(ssl), isSentByKernel: isSendingByKernel)
  }

  private var verifiedSubject: String? {
    guard let own = unsafe SSL_get0_peer_certificate(ssl), unsafe SSL_get_verify_result(ssl) == X509_V_OK else {
      return nil
    }
    return unsafe Certificate(pointer: own).distinguishedName
  }

  private func peerCertificates() -> [Bytes] {
    var certificates: [Bytes] = []
    // A server's chain does not hold the client's own certificate.
    if unsafe SSL_is_server(ssl) == 1, let own = unsafe SSL_get0_peer_certificate(ssl) {
      certificates.append(unsafe Certificate(pointer: own).encoded)
    }
    guard let chain = unsafe SSL_get_peer_cert_chain(ssl) else { return certificates }
    for index in unsafe 0..<sluice_sk_X509_num(chain) {
      guard let certificate = unsafe sluice_sk_X509_value(chain, index) else { continue }
      certificates.append(unsafe Certificate(pointer: certificate).encoded)
    }
    return certificates
  }
}
