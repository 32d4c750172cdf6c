import CSluiceOpenSSL
import SluiceStreams
import SystemPackage

/// A certificate with its issuers' and its key, read and ready for use.
@safe final class Identity {
  let certificate: OpaquePointer
  let issuers: [OpaquePointer]
  let key: OpaquePointer

  private init(_ certificate: OpaquePointer, issuers: [OpaquePointer], key: OpaquePointer) {
    unsafe self.certificate = certificate
    unsafe self.issuers = issuers
    unsafe self.key = key
  }

  deinit {
    unsafe X509_free(certificate)
    unsafe Certificate.free(issuers)
    unsafe EVP_PKEY_free(key)
  }

  /// - Throws: `TLSError.invalidOption`.
  static func load(_ identity: TLSIdentity) throws(TLSError) -> Identity {
    OpenSSLError.clear()
    switch identity {
    case .pem(let certificates, let key, let passphrase):
      return try load(certificates: certificates, key: key, passphrase: passphrase)
    case .pkcs12(let bytes, let passphrase): return try load(pkcs12: bytes, passphrase: passphrase)
    }
  }

  private static func load(
    certificates: PEMSource, key: PEMSource, passphrase: String?
  ) throws(TLSError) -> Identity {
    let chain = unsafe try Self.certificates(certificates, option: "the certificate")
    guard let first = unsafe chain.first else {
      throw .invalidOption("certificate", reason: "no PEM certificate in \(certificates)")
    }
    let source = try PEMReader(key, option: "private key")
    // Without a passphrase OpenSSL would ask for it on the terminal.
    var phrase = Array((passphrase ?? "").utf8CString)
    let read = unsafe phrase.withUnsafeMutableBufferPointer {
      unsafe PEM_read_bio_PrivateKey(source.bio, nil, nil, $0.baseAddress)
    }
    guard let loaded = unsafe read else {
      unsafe Certificate.free(chain)
      let reason = OpenSSLError.takeReason()
      let hint = passphrase == nil ? " (an encrypted key needs a passphrase)" : ""
      throw .invalidOption("private key", reason: "can't read it from \(key): \(reason)\(hint)")
    }
    return try checked(unsafe Identity(first, issuers: Array(chain.dropFirst()), key: loaded))
  }

  private static func load(pkcs12 bytes: Bytes, passphrase: String) throws(TLSError) -> Identity {
    let source = try PEMReader(.bytes(bytes), option: "the PKCS#12 identity")
    guard let archive = unsafe d2i_PKCS12_bio(source.bio, nil) else {
      throw .invalidOption("PKCS#12 identity", reason: "malformed: \(OpenSSLError.takeReason())")
    }
    defer { unsafe PKCS12_free(archive) }
    var key: OpaquePointer?
    var certificate: OpaquePointer?
    var others: OpaquePointer?
    guard unsafe PKCS12_parse(archive, passphrase, &key, &certificate, &others) == 1 else {
      throw .invalidOption("PKCS#12 identity", reason: "can't open it: \(OpenSSLError.takeReason())")
    }
    var issuers: [OpaquePointer] = unsafe []
    if let others = unsafe others {
      for index in unsafe 0..<sluice_sk_X509_num(others) {
        guard let issuer = unsafe sluice_sk_X509_value(others, index) else { continue }
        unsafe X509_up_ref(issuer)
        unsafe issuers.append(issuer)
      }
      unsafe sluice_sk_X509_free(others)
    }
    guard let key = unsafe key, let certificate = unsafe certificate else {
      unsafe Certificate.free(issuers)
      if let key = unsafe key { unsafe EVP_PKEY_free(key) }
      if let certificate = unsafe certificate { unsafe X509_free(certificate) }
      throw .invalidOption("PKCS#12 identity", reason: "no certificate with a private key")
    }
    return try checked(unsafe Identity(certificate, issuers: issuers, key: key))
  }

  private static func checked(_ identity: Identity) throws(TLSError) -> Identity {
    guard unsafe X509_check_private_key(identity.certificate, identity.key) == 1 else {
      throw .invalidOption("private key", reason: "does not match the certificate: \(OpenSSLError.takeReason())")
    }
    return identity
  }

  /// All certificates of a PEM, in order. The caller frees them.
  static func certificates(_ source: PEMSource, option: String) throws(TLSError) -> [OpaquePointer] {
    let reader = try PEMReader(source, option: option)
    var found: [OpaquePointer] = unsafe []
    while let certificate = unsafe PEM_read_bio_X509(reader.bio, nil, nil, nil) { unsafe found.append(certificate) }
    // The end of the text is an error too.
    OpenSSLError.clear()
    return unsafe found
  }
}

/// Where PEM is read from.
@safe final class PEMReader {
  let bio: OpaquePointer
  /// Held for as long as OpenSSL reads from it.
  private let bytes: Bytes?

  init(_ source: PEMSource, option: String) throws(TLSError) {
    let opened: OpaquePointer?
    switch source {
    case .file(let path):
      bytes = nil
      unsafe opened = BIO_new_file(path.string, "r")
    case .bytes(let all):
      bytes = all
      unsafe opened = all.withUnsafeBytes { unsafe BIO_new_mem_buf($0.baseAddress, CInt(clamping: $0.count)) }
    }
    guard let opened = unsafe opened else {
      throw .invalidOption(option, reason: "can't read \(source): \(OpenSSLError.takeReason())")
    }
    unsafe bio = opened
  }

  deinit { unsafe BIO_free(bio) }
}

extension PEMSource: CustomStringConvertible {
  public var description: String {
    switch self {
    case .file(let path): path.string
    case .bytes: "the given bytes"
    }
  }
}
