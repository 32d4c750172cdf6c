import SluiceStreams

/// What a chunked body may not be (RFC 9112 §7.1).
public enum ChunkedBodyError: Error, Hashable, Sendable, CustomStringConvertible {
  /// A chunk's length that is no hexadecimal number, or beyond what can be counted.
  case invalidLength
  /// A line of a chunk or a trailer that is longer than the limit, in bytes.
  case lineTooLong(limit: Int)
  /// A line that does not end with CRLF, or a chunk that is not followed by it.
  case invalidLineEnd
  /// The body ended inside a chunk, or without its last one.
  case truncated

  public var description: String {
    switch self {
    case .invalidLength: "the length of a chunk is not a hexadecimal number"
    case .lineTooLong(let limit): "a line of the chunked body is longer than \(limit) bytes"
    case .invalidLineEnd: "a line of the chunked body does not end with CRLF"
    case .truncated: "the body ended before its last chunk"
    }
  }
}

/// Takes a chunked body apart (RFC 9112 §7.1). Extensions and trailers are passed over. It ends behind the last chunk.
package struct ChunkedDecoder: BodyDecoder {
  private enum State {
    case length(Int, digits: Int)
    case lengthExtension(Int)
    case lengthEnd(Int)
    case data(Int)
    case dataCarriageReturn
    case dataLineFeed
    case trailer(isEmpty: Bool)
    case trailerEnd(isEmpty: Bool)
    case done
  }
  private static let maxLine = 4096
  private var state = State.length(0, digits: 0)
  private var lineBytes = 0
  package private(set) var rest = Bytes()

  package init() {}

  package mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    var rest = input[...]
    while !rest.isEmpty {
      if case .data(let count) = state {
        let part = rest.prefix(count)
        output.append(part)
        rest = rest.dropFirst(part.count)
        state = part.count == count ? .dataCarriageReturn : .data(count - part.count)
        continue
      }
      guard let byte = rest.popFirst() else { return }
      try step(byte)
      if case .done = state {
        self.rest = rest
        return output.end()
      }
    }
  }

  package mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    if case .done = state { return }
    throw ChunkedBodyError.truncated
  }

  private mutating func step(_ byte: UInt8) throws(ChunkedBodyError) {
    lineBytes += 1
    if lineBytes > Self.maxLine { throw .lineTooLong(limit: Self.maxLine) }
    switch (state, byte) {
    case (.length(let count, let digits), _):
      try stepLength(byte, count, digits)
    case (.lengthExtension(let count), 0x0D): state = .lengthEnd(count)
    case (.lengthExtension, 0x0A): throw .invalidLineEnd
    case (.lengthExtension, _): break
    case (.lengthEnd(let count), 0x0A):
      lineBytes = 0
      state = count == 0 ? .trailer(isEmpty: true) : .data(count)
    case (.dataCarriageReturn, 0x0D): state = .dataLineFeed
    case (.dataLineFeed, 0x0A):
      lineBytes = 0
      state = .length(0, digits: 0)
    case (.trailer(let isEmpty), 0x0D): state = .trailerEnd(isEmpty: isEmpty)
    case (.trailer, 0x0A): throw .invalidLineEnd
    case (.trailer, _): state = .trailer(isEmpty: false)
    // The trailers count as one line: together they have a limit.
    case (.trailerEnd(let isEmpty), 0x0A): state = isEmpty ? .done : .trailer(isEmpty: true)
    default: throw .invalidLineEnd
    }
  }

  private mutating func stepLength(_ byte: UInt8, _ count: Int, _ digits: Int) throws(ChunkedBodyError) {
    let digit: Int
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = Int(byte - UInt8(ascii: "0"))
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = Int(byte - UInt8(ascii: "a")) + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = Int(byte - UInt8(ascii: "A")) + 10
    case 0x0D where digits > 0:
      state = .lengthEnd(count)
      return
    case UInt8(ascii: ";"), 0x20, 0x09:
      guard digits > 0 else { throw .invalidLength }
      state = .lengthExtension(count)
      return
    default: throw .invalidLength
    }
    guard count <= Int.max >> 5 else { throw .invalidLength }
    state = .length(count << 4 | digit, digits: digits + 1)
  }
}

extension BytesBuilder {
  /// Appends a chunk (RFC 9112 §7.1) that is not empty.
  package mutating func append(chunk bytes: Span<UInt8>) {
    append(String(bytes.count, radix: 16))
    append("\r\n")
    append(bytes)
    append("\r\n")
  }

  /// Appends the last chunk.
  package mutating func appendLastChunk() { append("0\r\n\r\n") }
}
