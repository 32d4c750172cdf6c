import CSluiceOpenSSL
import SluiceStreams

/// The answer about its own certificate that a server brings along (RFC 6066 §8).
enum OCSPStaple {
  static func response(_ ssl: OpaquePointer) -> Bytes? {
    var data: UnsafeMutablePointer<UInt8>?
    let count = unsafe sluice_SSL_get_tlsext_status_ocsp_resp(ssl, &data)
    guard let data = unsafe data, count > 0 else { return nil }
    return unsafe Bytes(copying: Span(_unsafeStart: UnsafePointer(data), count: count))
  }

  /// Whether these bytes are a response, whatever it says.
  static func isResponse(_ bytes: Bytes) -> Bool {
    defer { OpenSSLError.clear() }
    guard let parsed = unsafe parse(bytes) else { return false }
    unsafe OCSP_RESPONSE_free(parsed)
    return true
  }

  private static func parse(_ encoded: Bytes) -> OpaquePointer? {
    unsafe encoded.withUnsafeBytes { bytes in
      var start = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
      return unsafe d2i_OCSP_RESPONSE(nil, &start, bytes.count)
    }
  }

  /// Refuses a certificate that its issuer, in a response that is signed as it should be, calls revoked. A response that can't be
  /// verified says nothing.
  static func check(_ ssl: OpaquePointer) throws(TLSError) {
    defer { OpenSSLError.clear() }
    guard let encoded = unsafe response(ssl), let certificate = unsafe SSL_get0_peer_certificate(ssl),
      let chain = unsafe SSL_get0_verified_chain(ssl), unsafe sluice_sk_X509_num(chain) > 1,
      let issuer = unsafe sluice_sk_X509_value(chain, 1)
    else { return }
    guard let parsed = unsafe parse(encoded) else { return }
    defer { unsafe OCSP_RESPONSE_free(parsed) }
    guard let basic = unsafe OCSP_response_get1_basic(parsed) else { return }
    defer { unsafe OCSP_BASICRESP_free(basic) }
    let store = unsafe SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl))
    guard unsafe OCSP_basic_verify(basic, chain, store, 0) == 1,
      let id = unsafe OCSP_cert_to_id(nil, certificate, issuer)
    else { return }
    defer { unsafe OCSP_CERTID_free(id) }
    var status: CInt = 0
    guard unsafe OCSP_resp_find_status(basic, id, &status, nil, nil, nil, nil) == 1 else { return }
    if status == V_OCSP_CERTSTATUS_REVOKED {
      throw .untrusted(
        reason: "revoked by its issuer (stapled OCSP response)",
        subject: unsafe Certificate(pointer: certificate).subject)
    }
  }
}
