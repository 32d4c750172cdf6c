import SluiceStreams

/// What a chunked body may not be (RFC 9112 §7.1).
public enum ChunkedBodyError: Error, Hashable, Sendable, CustomStringConvertible {
  /// A chunk length that is not a hexadecimal number, or too large to count.
  case invalidLength
  /// The text after a chunk's length is not an extension: a name, and optionally a value that is a token or a quoted string.
  case invalidExtension
  /// Lengths, extensions and line ends beyond what the chunks are worth: so many bytes more than 16 for each chunk and two for each byte in it.
  case tooMuchFraming(limit: Int)
  /// A line that does not end with CRLF, or a chunk that is not followed by it.
  case invalidLineEnd
  /// A trailer line that is not a field, or fields beyond the limits of a head.
  case invalidTrailer(HTTPHeadError)
  /// The body ended inside a chunk, or without its last one.
  case truncated

  public var description: String {
    switch self {
    case .invalidLength: "invalid chunk length (expected a hexadecimal number)"
    case .invalidExtension: "malformed chunk extension (expected ;NAME or ;NAME=VALUE)"
    case .tooMuchFraming(let limit):
      "too much chunk overhead in the body (limit \(limit) bytes beyond its share of the data)"
    case .invalidLineEnd: "a line of the chunked body does not end in CRLF"
    case .invalidTrailer(let error): "invalid trailer: \(error)"
    case .truncated: "the body ended before the last chunk"
    }
  }
}

/// Takes a chunked body apart (RFC 9112 §7.1). Extensions and trailer fields are read by their grammar and dropped. It ends behind the empty line
/// that ends the trailer.
package struct ChunkedDecoder: BodyDecoder {
  private enum State {
    case length(Int, digits: Int)
    case lengthExtension(Int, ChunkExtension)
    case lengthEnd(Int)
    case data(Int)
    case dataCarriageReturn
    case dataLineFeed
    case trailer
    case trailerEnd
    case done
  }
  /// What a chunk's framing may have for each chunk; with two bytes for each byte of data, and once for the body, what follows.
  private static let allowancePerChunk = 16
  private static let allowancePerByte = 2
  private static let maxExcess = 16 << 10

  private let limits: HeadLimits
  private var state = State.length(0, digits: 0)
  /// Bytes of framing beyond what the chunks so far are worth.
  private var excess = 0
  private var trailerLine: [UInt8] = []
  private var trailerBytes = 0
  private var trailerCount = 0
  package private(set) var rest = Bytes()

  /// - Parameter limits: Of the trailer: its bytes and its fields.
  package init(limits: HeadLimits = HeadLimits()) { self.limits = limits }

  package mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    var rest = input[...]
    while !rest.isEmpty {
      if case .data(let count) = state {
        let part = rest.prefix(count)
        output.append(part)
        rest = rest.dropFirst(part.count)
        excess = max(0, excess - Self.allowancePerByte * part.count)
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
    switch state {
    case .trailer, .trailerEnd: return try stepTrailer(byte)
    default: break
    }
    excess += 1
    if excess > Self.maxExcess { throw .tooMuchFraming(limit: Self.maxExcess) }
    switch (state, byte) {
    case (.length(let count, let digits), _): try stepLength(byte, count, digits)
    case (.lengthExtension(let count, let written), 0x0D) where written.mayEnd: state = .lengthEnd(count)
    case (.lengthExtension, 0x0A): throw .invalidLineEnd
    case (.lengthExtension(let count, var written), _):
      guard written.take(byte) else { throw .invalidExtension }
      state = .lengthExtension(count, written)
    case (.lengthEnd(let count), 0x0A):
      excess = max(0, excess - Self.allowancePerChunk)
      state = count == 0 ? .trailer : .data(count)
    case (.dataCarriageReturn, 0x0D): state = .dataLineFeed
    case (.dataLineFeed, 0x0A): state = .length(0, digits: 0)
    default: throw .invalidLineEnd
    }
  }

  private mutating func stepLength(_ byte: UInt8, _ count: Int, _ digits: Int) throws(ChunkedBodyError) {
    guard let digit = ASCII.hexDigit(byte) else {
      if digits == 0 { throw .invalidLength }
      if byte == 0x0D {
        state = .lengthEnd(count)
      } else if let written = ChunkExtension(byte) {
        state = .lengthExtension(count, written)
      } else {
        throw .invalidLength
      }
      return
    }
    guard count <= Int.max >> 5 else { throw .invalidLength }
    state = .length(count << 4 | Int(digit), digits: digits + 1)
  }

  // MARK: the trailer

  /// §7.1.2: field lines, as those of a head.
  private mutating func stepTrailer(_ byte: UInt8) throws(ChunkedBodyError) {
    trailerBytes += 1
    if trailerBytes > limits.maxHeadBytes { throw .invalidTrailer(.headTooLong(limit: limits.maxHeadBytes)) }
    switch (state, byte) {
    case (.trailer, 0x0D): state = .trailerEnd
    case (.trailer, 0x0A): throw .invalidLineEnd
    case (.trailer, _): trailerLine.append(byte)
    case (.trailerEnd, 0x0A):
      if trailerLine.isEmpty {
        state = .done
      } else {
        try endTrailerLine()
        state = .trailer
      }
    default: throw .invalidLineEnd
    }
  }

  private mutating func endTrailerLine() throws(ChunkedBodyError) {
    trailerCount += 1
    guard trailerCount <= limits.maxFieldCount else {
      throw .invalidTrailer(.tooManyFields(limit: limits.maxFieldCount))
    }
    do { _ = try HeadLines.field(Bytes(trailerLine)) } catch { throw .invalidTrailer(error) }
    trailerLine = []
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
