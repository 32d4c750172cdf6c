/// Cuts a stream of bytes into elements that each follow their length: 4 bytes, big-endian.
public struct LengthPrefixDecoder: Transform {
  /// Bytes of an element.
  public let limit: Int
  private var prefix = PartialElement()
  private var body = PartialElement()
  private var expected: Int?
  /// What is still to be cut, behind a pause.
  private var rest = Bytes()

  /// - Parameter limit: A length beyond it fails with `StreamError.limitExceeded`, before anything is kept. Default: 64 MiB - 1.
  public init(limit: Int = DelimiterDecoder.defaultLimit) { self.limit = limit }

  public mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    try cut(rest.followed(by: input), into: &output, pauses: true)
  }

  public mutating func resume(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: true)
  }

  private mutating func cut(_ input: Bytes, into output: inout TransformOutput<Bytes>, pauses: Bool) throws {
    rest = Bytes()
    var input = input
    while true {
      if let expected {
        let part = input.prefix(expected - body.count)
        input = input.dropFirst(part.count)
        let isWhole = body.count + part.count == expected
        try body.append(isWhole ? part : part.compacted(), limit: limit, what: "a length-prefixed element")
        if !isWhole { return }
        output.append(body.take())
        self.expected = nil
        if pauses && output.isFull && !input.isEmpty {
          rest = input.compacted()
          return output.pause()
        }
      }
      let part = input.prefix(4 - prefix.count)
      input = input.dropFirst(part.count)
      try prefix.append(part.compacted(), limit: 4, what: "a length")
      if prefix.count < 4 { return }
      let length = prefix.take().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      guard let length = Int(exactly: length), length <= limit else {
        throw StreamError.limitExceeded(what: "a length-prefixed element", limit: limit, actual: Int(clamping: length))
      }
      expected = length
    }
  }

  /// - Throws: `StreamError.truncated` if the source ended inside an element.
  public mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: false)
    if let expected {
      Reached.mark("lengthPrefix.truncated")
      throw StreamError.truncated(what: "a length-prefixed element", expected: expected, actual: body.count)
    }
    if prefix.count > 0 { throw StreamError.truncated(what: "a length", expected: 4, actual: prefix.count) }
  }
}

/// Writes each element behind its length: 4 bytes, big-endian.
public struct LengthPrefixEncoder: Transform {
  public init() {}

  /// - Throws: `StreamError.limitExceeded` for an element of 4 GiB or more.
  public func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    guard let length = UInt32(exactly: input.count) else {
      throw StreamError.limitExceeded(what: "a length-prefixed element", limit: Int(UInt32.max), actual: input.count)
    }
    var builder = BytesBuilder(capacity: 4)
    builder.append(bigEndian: length)
    output.append(builder.take())
    if !input.isEmpty { output.append(input) }
  }
}

extension Transform where Self == LengthPrefixDecoder {
  public static var lengthPrefixed: LengthPrefixDecoder { LengthPrefixDecoder() }
}

extension ReadableStream where Output == Bytes {
  /// The elements that each follow their length of 4 bytes, big-endian.
  public var lengthPrefixed: TransformedStream<Self, LengthPrefixDecoder> { pipe(through: LengthPrefixDecoder()) }
}
