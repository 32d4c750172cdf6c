/// How a length is written before what it is the length of.
public struct LengthPrefix: Hashable, Sendable {
  /// Bytes of the length.
  public enum Width: Int, Sendable {
    case one = 1
    case two = 2
    case four = 4
    case eight = 8
  }
  public var width: Width
  /// Whether the lowest byte comes first. Default: no, as network protocols have it.
  public var isLittleEndian: Bool

  public init(_ width: Width = .four, isLittleEndian: Bool = false) {
    self.width = width
    self.isLittleEndian = isLittleEndian
  }

  /// The largest length that it can say.
  var largest: UInt64 { .max >> UInt64(64 - 8 * width.rawValue) }

  func length(of bytes: Bytes) -> UInt64 {
    isLittleEndian
      ? bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } : bytes.reduce(0) { $0 << 8 | UInt64($1) }
  }

  func append(_ length: UInt64, to builder: inout BytesBuilder) {
    for index in 0..<width.rawValue {
      let place = isLittleEndian ? index : width.rawValue - 1 - index
      builder.append(UInt8(truncatingIfNeeded: length >> UInt64(8 * place)))
    }
  }
}

/// Cuts a stream of bytes into elements that each follow their length: 4 bytes, big-endian, unless the prefix has another form.
public struct LengthPrefixDecoder: Transform {
  /// Bytes of an element.
  public let limit: Int
  private let form: LengthPrefix
  private var prefix = PartialElement()
  private var body = PartialElement()
  private var expected: Int?
  /// What is still to be cut, behind a pause.
  private var rest = Bytes()

  /// - Parameter limit: A length beyond it fails with `StreamError.limitExceeded`, before anything is kept. Default: 64 MiB - 1.
  public init(_ prefix: LengthPrefix = LengthPrefix(), limit: Int = DelimiterDecoder.defaultLimit) {
    form = prefix
    self.limit = limit
  }

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
      let part = input.prefix(form.width.rawValue - prefix.count)
      input = input.dropFirst(part.count)
      try prefix.append(part.compacted(), limit: form.width.rawValue, what: "a length")
      if prefix.count < form.width.rawValue { return }
      let announced = form.length(of: prefix.take())
      guard let length = Int(exactly: announced), length <= limit else {
        throw StreamError.limitExceeded(
          what: "a length-prefixed element", limit: limit, actual: Int(clamping: announced))
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
    if prefix.count > 0 {
      throw StreamError.truncated(what: "a length", expected: form.width.rawValue, actual: prefix.count)
    }
  }
}

/// Writes each element behind its length: 4 bytes, big-endian, unless the prefix has another form.
public struct LengthPrefixEncoder: Transform {
  private let form: LengthPrefix

  public init(_ prefix: LengthPrefix = LengthPrefix()) { form = prefix }

  /// - Throws: `StreamError.limitExceeded` for an element that is longer than the prefix can say.
  public func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    guard let length = UInt64(exactly: input.count), length <= form.largest else {
      throw StreamError.limitExceeded(
        what: "a length-prefixed element", limit: Int(clamping: form.largest), actual: input.count)
    }
    var builder = BytesBuilder(capacity: form.width.rawValue)
    form.append(length, to: &builder)
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
