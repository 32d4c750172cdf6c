/// Cuts a stream of bytes into elements at a delimiter byte, which is not part of them. What follows the last delimiter is
/// an element too, unless it is empty.
public struct DelimiterDecoder: Transform {
  public let delimiter: UInt8
  /// Whether a CR before the delimiter is taken away too.
  public let dropsCarriageReturn: Bool
  /// Bytes of an element, 1 or more.
  public let limit: Int
  private var partial = PartialElement()
  /// What is still to be cut, behind a pause.
  private var rest = Bytes()

  public static let defaultLimit = (64 << 20) - 1

  /// - Parameter limit: Bytes of an element; a longer one fails with `StreamError.limitExceeded`. Default: 64 MiB - 1.
  public init(_ delimiter: UInt8, dropsCarriageReturn: Bool = false, limit: Int = defaultLimit) {
    self.delimiter = delimiter
    self.dropsCarriageReturn = dropsCarriageReturn
    self.limit = limit
  }

  public mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    try cut(rest.followed(by: input), into: &output, pauses: true)
  }

  public mutating func resume(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: true)
  }

  public mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: false)
    if partial.count > 0 { emit(into: &output) }
  }

  private mutating func cut(_ input: Bytes, into output: inout TransformOutput<Bytes>, pauses: Bool) throws {
    rest = Bytes()
    var input = input
    while let end = input.firstOffset(of: delimiter) {
      try partial.append(input.prefix(end), limit: limit, what: "a line or delimited element")
      emit(into: &output)
      input = input.dropFirst(end + 1)
      if pauses && output.isFull && !input.isEmpty {
        rest = input.compacted()
        return output.pause()
      }
    }
    if !input.isEmpty { try partial.append(input.compacted(), limit: limit, what: "a line or delimited element") }
  }

  private mutating func emit(into output: inout TransformOutput<Bytes>) {
    let element = partial.take()
    output.append(dropsCarriageReturn && element.last == UInt8(ascii: "\r") ? element.dropLast() : element)
  }
}

/// Ends each element with a delimiter byte. An element that holds the byte itself becomes several.
public struct DelimiterEncoder: Transform {
  public let delimiter: UInt8

  public init(_ delimiter: UInt8) { self.delimiter = delimiter }

  public func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
    var builder = BytesBuilder(capacity: input.count + 1)
    builder.append(input)
    builder.append(delimiter)
    output.append(builder.take())
  }
}

/// Cuts a stream of bytes into lines, without their LF or CRLF. Bytes that are not UTF-8 become U+FFFD.
public struct LineDecoder: Transform {
  private var decoder: DelimiterDecoder

  /// - Parameter limit: As `DelimiterDecoder`'s.
  public init(limit: Int = DelimiterDecoder.defaultLimit) {
    decoder = DelimiterDecoder(UInt8(ascii: "\n"), dropsCarriageReturn: true, limit: limit)
  }

  public mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<String>) throws {
    let input = input
    try give(into: &output) { try $0.transform(input, into: &$1) }
  }

  public mutating func resume(into output: inout TransformOutput<String>) throws {
    try give(into: &output) { try $0.resume(into: &$1) }
  }

  public mutating func finish(into output: inout TransformOutput<String>) throws {
    try give(into: &output) { try $0.finish(into: &$1) }
  }

  /// What was cut before an error is given first.
  private mutating func give(
    into output: inout TransformOutput<String>,
    _ cut: (inout DelimiterDecoder, inout TransformOutput<Bytes>) throws -> Void
  ) throws {
    var lines = TransformOutput<Bytes>()
    defer {
      for line in lines.elements { output.append(line.string) }
      if lines.isPaused { output.pause() }
    }
    try cut(&decoder, &lines)
  }
}

/// Ends each string with LF.
public struct LineEncoder: Transform {
  public init() {}

  public func transform(_ input: consuming String, into output: inout TransformOutput<Bytes>) {
    output.append(Bytes(input + "\n"))
  }
}

extension Transform where Self == LineDecoder {
  /// Bytes to lines.
  public static var lines: LineDecoder { LineDecoder() }
}

extension Transform where Self == LineEncoder {
  /// Strings to lines of bytes.
  public static var lines: LineEncoder { LineEncoder() }
}

extension Transform where Self == DelimiterDecoder {
  /// Bytes to the elements between NUL bytes, as `find -print0` writes them.
  public static var nullTerminated: DelimiterDecoder { DelimiterDecoder(0) }
}

extension ReadableStream where Output == Bytes {
  /// The lines, without their LF or CRLF.
  ///
  /// ```swift
  /// for try await line in StandardIO().lines { print(line.count) }
  /// ```
  public var lines: TransformedStream<Self, LineDecoder> { pipe(through: LineDecoder()) }

  /// What stands between NUL bytes.
  public var nullTerminated: TransformedStream<Self, DelimiterDecoder> { pipe(through: DelimiterDecoder(0)) }
}
