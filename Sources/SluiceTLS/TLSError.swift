import SluiceStreams

/// Why a TLS connection failed, before or after its handshake.
public enum TLSError: Error, Hashable, Sendable {
  /// The peer's certificate is for other names; `names` are those it has.
  case wrongName(names: [String], wanted: String)
  /// The peer's certificate is not trusted: expired, self-signed, of an unknown issuer, revoked, too weak.
  case untrusted(reason: String, subject: String)
  /// The peer, which had to, sent no certificate.
  case noCertificate
  /// The peer refused with an alert (RFC 8446 §6), by its name: "certificate_required".
  case alert(String)
  /// The peer sent what is no TLS, or broke the protocol; in OpenSSL's words.
  case `protocol`(String)
  /// RFC 8446 §6.1: the connection ended without close_notify, so that something may be missing.
  case truncated
  /// The connection ended during the handshake.
  case endedEarly
  /// The handshake took longer.
  case timeout(Duration)
  /// An option that can't be used: which, and what is wrong with it.
  case invalidOption(String, reason: String)
}

extension TLSError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .wrongName(let names, let wanted):
      names.isEmpty
        ? "the certificate is not valid for \(wanted): it has no subject alternative name (the common name is not used)"
        : "the certificate for \(names.joined(separator: ", ")) is not valid for \(wanted)"
    case .untrusted(let reason, let subject):
      subject.isEmpty
        ? "the certificate is not trusted: \(reason)" : "the certificate of \(subject) is not trusted: \(reason)"
    case .noCertificate: "the peer sent no certificate"
    case .alert(let name): "the peer refused TLS: \(name)"
    case .protocol(let reason): "TLS failed: \(reason)"
    case .truncated: "the TLS connection ended without close_notify; data may be missing"
    case .endedEarly: "the connection ended during the TLS handshake"
    case .timeout(let time): "the TLS handshake took longer than \(time)"
    case .invalidOption(let option, let reason): "\(option): \(reason)"
    }
  }
}

extension TLSError: ReadingEndError {
  package var endsReadingOnly: Bool {
    if case .truncated = self { true } else { false }
  }
}
