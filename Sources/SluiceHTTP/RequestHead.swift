import HTTPTypes
import SluiceStreams

/// A request head, strictly parsed (RFC 9112).
package struct RequestHead: Sendable {
  /// Host stands in `authority`, not among the fields; so does the host of a target that is a whole URL, of which `path` has the rest.
  package var request: HTTPRequest
  /// Whether the version is HTTP/1.1 rather than 1.0.
  package var isHTTP11: Bool
  /// Where the body ends.
  package let body: BodyFraming

  /// - Parameter head: What `HeadReader` gave.
  package init(_ head: Bytes, limits: HeadLimits = HeadLimits()) throws(HTTPHeadError) {
    let lines = try HeadLines(head, limits: limits)
    let parts = lines.first.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].isToken, let method = HTTPRequest.Method(parts[0].string) else {
      throw .malformedRequestLine
    }
    isHTTP11 = try Self.isHTTP11(parts[2])
    guard lines.hosts.count <= 1 else { throw .duplicateField(name: "Host") }
    guard let host = lines.hosts.first ?? (isHTTP11 ? nil : "") else { throw .missingHost }
    let target = try RequestTarget(parts[1], method: method, host: host)
    request = HTTPRequest(
      method: method, scheme: "http", authority: target.authority, path: target.path, headerFields: lines.fields)
    body = try BodyFraming(ofRequest: lines.fields, isHTTP11: isHTTP11)
  }

  /// RFC 9112 §2.3: `HTTP/`, a digit, a point and a digit. RFC 9110 §2.5: a higher minor version says what 1.1 says, and more.
  private static func isHTTP11(_ version: Bytes) throws(HTTPHeadError) -> Bool {
    let digits = version.dropFirst(5)
    guard version.begins(with: "HTTP/"), digits.count == 3, let major = digits.first, let minor = digits.last,
      ASCII.isDigit(major), ASCII.isDigit(minor), digits.dropFirst().first == UInt8(ascii: ".")
    else { throw .malformedRequestLine }
    guard major == UInt8(ascii: "1") else { throw .unsupportedVersion }
    return minor != UInt8(ascii: "0")
  }

  /// Whether a body follows the head.
  package var hasBody: Bool { !body.isEmpty }
}

/// A response head, strictly parsed; of a field in several lines the value is put together (RFC 9112 §5.2).
package struct ResponseHead: Sendable {
  package var response: HTTPResponse

  /// - Parameter head: What `HeadReader` gave.
  package init(_ head: Bytes, limits: HeadLimits = HeadLimits()) throws(HTTPHeadError) {
    let lines = try HeadLines(head, limits: limits, unfolding: true)
    let line = lines.first
    guard line.starts(with: "HTTP/1.1 ".utf8) || line.starts(with: "HTTP/1.0 ".utf8) else {
      throw line.starts(with: "HTTP/".utf8) ? .unsupportedVersion : .malformedStatusLine
    }
    let digits = line.dropFirst(9).prefix(3)
    let rest = line.dropFirst(12)
    guard digits.count == 3, let code = digits.decimal, (100...999).contains(code),
      rest.first.map({ $0 == 0x20 }) ?? true, rest.allSatisfy(HTTPSyntax.isValueCharacter)
    else { throw .malformedStatusLine }
    response = HTTPResponse(
      status: HTTPResponse.Status(code: code, reasonPhrase: rest.dropFirst().string), headerFields: lines.fields)
  }
}
