/// Cuts a stream of bytes into chunks of one size; the last may be shorter.
public struct ChunkTransform: Transform {
  /// Bytes of a chunk, 1 or more.
  public let size: Int
  private var partial = PartialElement()
  /// What is still to be cut, behind a pause.
  private var rest = Bytes()

  /// - Parameter size: Less than 1 counts as 1.
  public init(size: Int) { self.size = Swift.max(size, 1) }

  public mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    try cut(rest.followed(by: input), into: &output, pauses: true)
  }

  public mutating func resume(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: true)
  }

  public mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: false)
    if partial.count > 0 { output.append(partial.take()) }
  }

  private mutating func cut(_ input: Bytes, into output: inout TransformOutput<Bytes>, pauses: Bool) throws {
    rest = Bytes()
    var input = input
    while partial.count + input.count >= size {
      let part = input.prefix(size - partial.count)
      input = input.dropFirst(part.count)
      try partial.append(part, limit: size, what: "a chunk")
      output.append(partial.take())
      if pauses && output.isFull && !input.isEmpty {
        rest = input.compacted()
        return output.pause()
      }
    }
    if !input.isEmpty { try partial.append(input.compacted(), limit: size, what: "a chunk") }
  }
}

extension Transform where Self == ChunkTransform {
  public static func chunks(of size: Int) -> ChunkTransform { ChunkTransform(size: size) }
}

extension ReadableStream where Output == Bytes {
  /// The same bytes in chunks of `size` bytes (1 or more); the last may be shorter.
  public func chunks(of size: Int) -> TransformedStream<Self, ChunkTransform> {
    pipe(through: ChunkTransform(size: size))
  }
}

extension ReadableStream {
  /// Everything until the end.
  /// - Parameter limit: Elements; one more cancels the stream.
  /// - Throws: `StreamError.limitExceeded`, or what the stream fails with.
  public func collect(limit: Int) async throws -> [Output] {
    var elements: [Output] = []
    while let element = try await read() {
      guard elements.count < limit else {
        throw refuse(StreamError.limitExceeded(what: "the collected data", limit: limit, actual: elements.count + 1))
      }
      elements.append(element)
    }
    return elements
  }

  fileprivate func refuse(_ error: StreamError) -> StreamError {
    cancel(error)
    return error
  }
}

extension ReadableStream where Output == Bytes {
  /// All bytes until the end.
  /// - Parameter limit: Bytes; one more cancels the stream.
  /// - Throws: `StreamError.limitExceeded`, or what the stream fails with.
  public func collect(limit: Int) async throws -> Bytes {
    var builder = BytesBuilder()
    while let chunk = try await read() {
      guard builder.count + chunk.count <= limit else {
        throw refuse(
          StreamError.limitExceeded(what: "the collected data", limit: limit, actual: builder.count + chunk.count))
      }
      builder.append(chunk)
    }
    return builder.take()
  }
}
