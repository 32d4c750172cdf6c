import SluiceStreams

/// A body of so many bytes (RFC 9112 §6.2): it ends with the last of them.
package struct LengthDecoder: BodyDecoder {
  private let length: Int
  private var received = 0
  package private(set) var rest = Bytes()

  package init(_ length: Int) { self.length = length }

  package var isComplete: Bool { received == length }

  package mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    let input = consume input
    let part = input.prefix(length - received)
    received += part.count
    if !part.isEmpty { output.append(part) }
    if received == length {
      rest = input.dropFirst(part.count)
      output.end()
    }
  }

  package mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    if received < length { throw StreamError.truncated(what: "a body", expected: length, actual: received) }
  }
}
