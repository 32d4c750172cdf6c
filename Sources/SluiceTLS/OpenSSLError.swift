import CSluiceOpenSSL
import SystemPackage

/// OpenSSL's queue of errors, which each thread has.
enum OpenSSLError {
  /// Empties the queue, which `SSL_get_error` wants before each call. It nearly always is empty, and to see that costs a tenth of
  /// emptying it.
  static func clear() {
    if ERR_peek_error() != 0 { ERR_clear_error() }
  }

  /// What went wrong first, in OpenSSL's words; the queue is empty then.
  static func takeReason() -> String {
    let code = ERR_get_error()
    ERR_clear_error()
    return reason(code)
  }

  /// The library and reason of the error that came last, which says what became of the call.
  static func takeLast() -> (reason: CInt, text: String) {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    // ERR_GET_REASON of OpenSSL 3: the low 23 bits, unless the highest says that it is errno's.
    return (CInt(truncatingIfNeeded: code & 0x7F_FFFF), reason(code))
  }

  private static func reason(_ code: UInt) -> String {
    // ERR_SYSTEM_ERROR of OpenSSL 3: an errno beneath the highest of 32 bits, for which it has no words.
    if code & 0x8000_0000 != 0, let number = CInt(exactly: code & 0x7FFF_FFFF) {
      return Errno(rawValue: number).description
    }
    guard let text = unsafe ERR_reason_error_string(code) else { return "error \(String(code, radix: 16))" }
    return unsafe String(cString: text)
  }
}
