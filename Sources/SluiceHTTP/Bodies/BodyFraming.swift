import HTTPTypes
import SluiceStreams

/// How a head says where the body behind it ends (RFC 9112 §6). Taken from the fields once, so that nobody reads a length in another way.
package enum BodyFraming: Hashable, Sendable {
  /// The fields say nothing: a request has no body, a response's goes to the end of the connection.
  case unspecified
  /// So many bytes, 0 or more.
  case length(Int)
  /// The value of Transfer-Encoding: "chunked", or what is not known here.
  case coded(String)

  /// §6.3: a body whose end two readers may see differently is how requests are smuggled. Two lengths are refused although they are the same:
  /// whoever stands in between may have read them as a list, or as none.
  package init(_ fields: HTTPFields) throws(HTTPHeadError) {
    let lengths = fields[values: .contentLength]
    guard !fields[values: .transferEncoding].isEmpty else {
      switch lengths.count {
      case 0: self = .unspecified
      case 1: self = .length(try Self.number(lengths[0]))
      default: throw .ambiguousLength
      }
      return
    }
    guard lengths.isEmpty, let coding = fields[.transferEncoding] else { throw .ambiguousLength }
    self = .coded(coding)
  }

  /// Of a response: a length that is said more than once, in one field or several, is that if it is always the same (§6.3), and empty elements of
  /// the list of codings are passed over (RFC 9110 §5.6.1).
  package init(ofResponse fields: HTTPFields) throws(HTTPHeadError) {
    let lengths = fields[values: .contentLength]
    let codings = fields[values: .transferEncoding]
    guard codings.isEmpty else {
      let elements = codings.listElements.map(\.text)
      guard lengths.isEmpty, !elements.isEmpty else { throw .ambiguousLength }
      self = .coded(elements.joined(separator: ", "))
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
    guard isOne else { throw .ambiguousLength }
    self = .length(try Self.number(first))
  }

  private static func number(_ text: String) throws(HTTPHeadError) -> Int {
    guard let number = text.utf8.decimal else { throw .ambiguousLength }
    return number
  }

  /// Whether a request with these fields has no body, or one without bytes.
  package var isEmpty: Bool { self == .unspecified || self == .length(0) }
}
