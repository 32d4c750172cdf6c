import CSluiceOpenSSL
import SluiceStreams

/// A certificate that somebody else holds, looked at.
@safe struct Certificate {
  let pointer: OpaquePointer

  static func free(_ certificates: [OpaquePointer]) {
    var rest = unsafe certificates
    while let certificate = unsafe rest.popLast() { unsafe X509_free(certificate) }
  }

  /// The hosts and addresses that it is for (subjectAltName, RFC 9525 §6: a common name does not count).
  var names: [String] {
    guard let raw = unsafe X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else { return [] }
    let names = OpaquePointer(raw)
    defer { unsafe GENERAL_NAMES_free(names) }
    return unsafe (0..<sluice_sk_GENERAL_NAME_num(names)).compactMap { index in
      guard let name = unsafe sluice_sk_GENERAL_NAME_value(names, index) else { return nil }
      switch unsafe name.pointee.type {
      case GEN_DNS: return unsafe Self.text(name.pointee.d.dNSName)
      case GEN_IPADD: return unsafe Self.address(name.pointee.d.iPAddress)
      default: return nil
      }
    }
  }

  private static func bytes(_ string: UnsafeMutablePointer<ASN1_STRING>?) -> [UInt8] {
    guard let string = unsafe string, let data = unsafe ASN1_STRING_get0_data(string) else { return [] }
    return unsafe Array(UnsafeBufferPointer(start: data, count: Int(ASN1_STRING_length(string))))
  }

  private static func text(_ string: UnsafeMutablePointer<ASN1_STRING>?) -> String {
    unsafe String(decoding: bytes(string), as: UTF8.self)
  }

  private static func address(_ string: UnsafeMutablePointer<ASN1_STRING>?) -> String? {
    let bytes = unsafe bytes(string)
    switch bytes.count {
    case 4: return bytes.map(String.init).joined(separator: ".")
    case 16:
      return stride(from: 0, to: 16, by: 2).map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
        .joined(separator: ":")
    default: return nil
    }
  }

  /// Who it says to be: "CN = example".
  var subject: String { printedSubject(inOneLine: true) }

  /// The same as RFC 4514 writes it, where nothing in it can be taken for another part of it: "CN=example,O=Example".
  var distinguishedName: String { printedSubject(inOneLine: false) }

  private func printedSubject(inOneLine: Bool) -> String {
    guard let name = unsafe X509_get_subject_name(pointer), let output = unsafe BIO_new(BIO_s_mem()) else { return "" }
    defer { unsafe BIO_free(output) }
    guard unsafe sluice_X509_NAME_print(output, name, inOneLine) >= 0 else { return "" }
    var text: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 512)
    while case let count = unsafe BIO_read(output, &part, CInt(part.count)), count > 0 { text += part[..<Int(count)] }
    return String(decoding: text, as: UTF8.self)
  }

  /// Whether it is for a host, by its names alone.
  func isValid(forHost name: String) -> Bool {
    unsafe X509_check_host(pointer, name, name.utf8.count, UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT), nil) == 1
  }

  /// In DER.
  var encoded: Bytes {
    let count = unsafe i2d_X509(pointer, nil)
    guard count > 0 else { return Bytes() }
    var builder = BytesBuilder(capacity: Int(count))
    unsafe builder.appendInitializing(upTo: Int(count)) { target in
      var end: UnsafeMutablePointer<UInt8>? = unsafe target
      return unsafe Swift.max(Int(i2d_X509(pointer, &end)), 0)
    }
    return builder.take()
  }
}
