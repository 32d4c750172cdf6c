import HTTPTypes
import SluiceStreams

/// How a head says where the body behind it ends (RFC 9112 §6). Taken from the fields once, so that nobody reads a length in another way.
package enum BodyFraming: Hashable, Sendable {
  /// The fields say nothing: a request has no body, a response's goes to the end of the connection.
  case unspecified
  /// So many bytes, 0 or more.
  case length(Int)
  /// In chunks, and nothing else.
  case chunked
  /// Transfer codings that are not known here, as they were written; perhaps in chunks.
  case coded(String, isChunked: Bool)

  /// §6.3: a body whose end two readers may see differently is how requests are smuggled. Two lengths are refused although they are the same:
  /// an intermediary may have read them as a list, or ignored them.
  package init(_ fields: HTTPFields) throws(HTTPHeadError) {
    let lengths = fields[values: .contentLength]
    let codings = fields[values: .transferEncoding]
    guard codings.isEmpty else {
      self = try Self.coded(codings)
      if lengths.isEmpty { return }
      throw .ambiguousLength
    }
    switch lengths.count {
    case 0: self = .unspecified
    case 1:
      guard let length = lengths[0].utf8.decimal else { throw .ambiguousLength }
      self = .length(length)
    default: throw .ambiguousLength
    }
  }

  /// Of a request, which no end of the connection ends (§6.3), and whose codings HTTP/1.0 does not know (§6.1).
  package init(ofRequest fields: HTTPFields, isHTTP11: Bool) throws(HTTPHeadError) {
    try self.init(fields)
    switch self {
    case .unspecified, .length: break
    case .chunked: if !isHTTP11 { throw .ambiguousLength }
    case .coded(_, let isChunked): if !isHTTP11 || !isChunked { throw .ambiguousLength }
    }
  }

  /// Of a response: a length that is said more than once, in one field or several, is that if it is always the same (§6.3), and empty elements of
  /// the list of codings are passed over (RFC 9110 §5.6.1).
  package init(ofResponse fields: HTTPFields) throws(HTTPHeadError) {
    let lengths = fields[values: .contentLength]
    let codings = fields[values: .transferEncoding]
    guard codings.isEmpty else {
      guard lengths.isEmpty else { throw .ambiguousLength }
      self = try Self.coded(codings)
      return
    }
    guard let first = lengths.first?.wire.prefix(while: { $0 != UInt8(ascii: ",") }).trimmingBlanks.text else {
      self = .unspecified
      return
    }
    let isOne = lengths.allSatisfy { value in
      value.wire.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        .allSatisfy { $0.trimmingBlanks.equals(first) }
    }
    guard isOne, let length = first.utf8.decimal else { throw .ambiguousLength }
    self = .length(length)
  }

  private static func coded(_ values: [String]) throws(HTTPHeadError) -> BodyFraming {
    let codings = values.listElements
    guard let last = codings.last else { throw .ambiguousLength }
    let isChunked = last.equalsIgnoringCase("chunked")
    if isChunked && codings.count == 1 { return .chunked }
    // §7: chunked is applied once; §7.1: and has no parameters.
    let isRepeated = codings.dropLast().contains { $0.equalsIgnoringCase("chunked") }
    let hasParameters = codings.contains {
      $0.divided(at: UInt8(ascii: ";"))?.before.trimmingBlanks.equalsIgnoringCase("chunked") ?? false
    }
    if isRepeated || hasParameters { throw .ambiguousLength }
    return .coded(codings.map(\.text).joined(separator: ", "), isChunked: isChunked)
  }

  /// Whether a request with these fields has no body, or one without bytes.
  package var isEmpty: Bool { self == .unspecified || self == .length(0) }
}
