import HTTPTypes
import SluiceStreams

/// What can't be written into a head: it would end a line, or be taken for something else (CR, LF, NUL and their like).
public enum HTTPFieldError: Error, Hashable, Sendable, CustomStringConvertible {
  case invalidName(String)
  /// The value is not repeated: it may be a secret.
  case invalidValue(name: String)
  /// A field that the protocol writes itself.
  case reservedName(String)
  /// A Host that is not HOST or HOST:PORT, or more than one.
  case invalidHost

  public var description: String {
    switch self {
    case .invalidName(let name):
      "invalid field name '\(name.escapingControls)' (expected letters, digits and !#$%&'*+-.^_`|~)"
    case .invalidValue(let name): "the value of \(name) contains a control character"
    case .invalidHost: "Host may be set only once, to HOST or HOST:PORT"
    case .reservedName(let name): "the field \(name) is set by the protocol and can't be overridden"
    }
  }
}

extension String {
  /// With control characters as U+XXXX, to be shown in an error.
  package var escapingControls: String {
    unicodeScalars.reduce(into: "") { text, scalar in
      if scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) {
        text += "U+" + String(scalar.value, radix: 16, uppercase: true)
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
  }
}

/// Writes a head line by line.
package struct HeadWriter: ~Copyable {
  private var builder = BytesBuilder(capacity: 256)

  package init(_ firstLine: String) {
    builder.append(firstLine)
    builder.append("\r\n")
  }

  /// - Throws: if the name is not a token or the value holds a control character.
  package mutating func append(_ name: String, _ value: String) throws(HTTPFieldError) {
    guard name.utf8.isToken else { throw .invalidName(name) }
    guard HTTPSyntax.isValue(value) else { throw .invalidValue(name: name) }
    builder.append(name)
    builder.append(": ")
    builder.append(value)
    builder.append("\r\n")
  }

  package mutating func append(_ fields: HTTPFields) throws(HTTPFieldError) {
    for field in fields { try append(field.name.rawName, field.value) }
  }

  /// Ends the head.
  /// - Parameter body: A short body, to follow it.
  package consuming func finish(body: Bytes = Bytes()) -> Bytes {
    builder.append("\r\n")
    builder.append(body)
    return builder.take()
  }
}
