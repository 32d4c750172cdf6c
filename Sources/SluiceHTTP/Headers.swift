import HTTPTypes
import SluiceStreams

/// Header fields that an application adds to a request or response, in order.
///
/// ```swift
/// var headers: Headers = ["Authorization": "Bearer \(token)", "X-Trace": "7"]
/// headers["X-Trace"] = "8"
/// ```
///
/// Names and values are checked when they are sent: a CR, LF or NUL in one is an error, never a second field.
public struct Headers: Sendable, ExpressibleByDictionaryLiteral, Sequence {
  package private(set) var fields: [(name: String, value: String)] = []

  public init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map { (name: $0, value: $1) }
  }

  public init() {}

  /// The same fields, in order.
  public init(_ fields: HTTPFields) {
    self.fields = fields.map { (name: $0.name.rawName, value: $0.value) }
  }

  /// The value of a field, whatever the case of its name; of several with one name, a list of theirs (RFC 9110 §5.3). Setting it takes the place of them all;
  /// nil takes them away.
  public subscript(name: String) -> String? {
    get {
      let values = fields.filter { $0.name.utf8.equalsIgnoringCase(name) }.map(\.value)
      return values.isEmpty ? nil : values.joined(separator: ", ")
    }
    set {
      let first = fields.firstIndex { $0.name.utf8.equalsIgnoringCase(name) }
      var kept = fields.filter { !$0.name.utf8.equalsIgnoringCase(name) }
      if let newValue { kept.insert((name, newValue), at: Swift.min(first ?? kept.count, kept.count)) }
      fields = kept
    }
  }

  /// Adds a field behind the others; a name may come more than once.
  public mutating func append(name: String, value: String) {
    fields.append((name, value))
  }

  /// Takes fields away.
  /// - Parameter names: In lower case.
  package mutating func remove(_ names: Set<String>) {
    fields.removeAll { names.contains($0.name.lowercasedASCII) }
  }

  /// A client's own Host, in place of that of the URL; it is taken out of the others.
  /// - Returns: nil if there is none.
  package mutating func takeHost() throws(HTTPFieldError) -> String? {
    let hosts = fields.filter { $0.name.utf8.equalsIgnoringCase("host") }.map(\.value)
    if hosts.isEmpty { return nil }
    guard hosts.count == 1, HTTPSyntax.isAuthority(hosts[0]) else { throw .invalidHost }
    remove(["host"])
    return hosts[0]
  }

  /// - Throws: as a head into which they were written would.
  package func checkSendable(reserved: Set<String>) throws(HTTPFieldError) {
    var writer = HeadWriter("")
    try writer.append(self, reserved: reserved)
  }

  /// Whether each could be written into a head.
  /// - Parameter reserved: Names, in lower case, that the protocol writes itself.
  package func areSendable(reserved: Set<String>) -> Bool {
    fields.allSatisfy { name, value in
      name.utf8.isToken && HTTPSyntax.isValue(value) && !reserved.contains(name.lowercasedASCII)
    }
  }

  public func makeIterator() -> some IteratorProtocol<(name: String, value: String)> {
    fields.makeIterator()
  }
}

extension HeadWriter {
  /// - Parameter reserved: Names, in lower case, that the protocol writes itself.
  package mutating func append(_ headers: Headers, reserved: Set<String>) throws(HTTPFieldError) {
    for (name, value) in headers.fields {
      guard !reserved.contains(name.lowercasedASCII) else { throw .reservedName(name) }
      try append(name, value)
    }
  }
}

extension HTTPFields {
  /// - Parameter reserved: Names, in lower case, that the protocol writes itself.
  package mutating func append(_ headers: Headers, reserved: Set<String>) throws(HTTPFieldError) {
    for (name, value) in headers.fields {
      guard !reserved.contains(name.lowercasedASCII) else { throw .reservedName(name) }
      guard name.utf8.isToken, let fieldName = HTTPField.Name(name) else { throw .invalidName(name) }
      guard HTTPSyntax.isValue(value) else { throw .invalidValue(name: name) }
      append(HTTPField(name: fieldName, value: value))
    }
  }
}
