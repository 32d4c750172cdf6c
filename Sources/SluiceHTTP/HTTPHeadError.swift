/// What is wrong with a request or response head. No case carries a field's value: values may be secrets.
public enum HTTPHeadError: Error, Hashable, Sendable {
  /// More than the limit, or no end within it; in bytes.
  case headTooLong(limit: Int)
  case tooManyFields(limit: Int)
  /// The request line, with whatever makes it so long, has no end within the head's limit (RFC 9112 §3); in bytes.
  case requestLineTooLong(limit: Int)
  /// RFC 9112 §2.2: CR and LF come only as a pair, at the end of a line.
  case bareLineEnd
  /// RFC 9112 §3: a request line is a method, a target and a version, with one space between.
  case malformedRequestLine
  /// RFC 9112 §4: a status line is a version, three digits and a reason.
  case malformedStatusLine
  /// Another major version than HTTP/1.
  case unsupportedVersion
  /// RFC 9112 §3.2: a target is a path, or a whole URL without user and password; it has no fragment, and each `%` two hexadecimal digits behind it.
  case invalidTarget
  /// RFC 9112 §5.2: a line that begins with white space, which once continued the field before.
  case foldedField
  /// RFC 9112 §5.1: a field without a colon, or whose name is not a token.
  case invalidFieldName
  /// RFC 9110 §5.5: a control character in a value.
  case invalidFieldValue(name: String)
  /// RFC 9112 §3.2: HTTP/1.1 asks for one Host.
  case missingHost
  /// RFC 9112 §3.2: Host is a host and perhaps a port.
  case invalidHost
  case duplicateField(name: String)
  /// RFC 9112 §6.3: both Content-Length and Transfer-Encoding, more than one Content-Length, one that is not a number, or a Transfer-Encoding that does
  /// not end a request's body.
  case ambiguousLength

  /// The status that a server answers with.
  public var status: Int {
    switch self {
    case .headTooLong, .tooManyFields: 431
    case .requestLineTooLong: 414
    case .unsupportedVersion: 505
    default: 400
    }
  }
}

extension HTTPHeadError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .headTooLong(let limit): "the head is longer than \(limit) bytes"
    case .tooManyFields(let limit): "the head has more than \(limit) fields"
    case .requestLineTooLong(let limit): "the request line is longer than \(limit) bytes"
    case .bareLineEnd: "a CR or LF in the head is not part of a CRLF"
    case .malformedRequestLine: "malformed request line (expected METHOD TARGET VERSION)"
    case .malformedStatusLine: "malformed status line (expected HTTP/1.1, three digits and a reason)"
    case .unsupportedVersion: "unsupported HTTP version (expected HTTP/1.0 or HTTP/1.1)"
    case .invalidTarget: "invalid request target (expected a path or an absolute URL)"
    case .foldedField: "a field line begins with whitespace"
    case .invalidFieldName: "malformed field line (expected NAME: VALUE)"
    case .invalidFieldValue(let name): "the value of \(name) contains a control character"
    case .missingHost: "the Host field is missing"
    case .invalidHost: "invalid Host field (expected HOST or HOST:PORT)"
    case .duplicateField(let name): "duplicate field \(name)"
    case .ambiguousLength: "the length of the body is ambiguous"
    }
  }
}
