import HTTPTypes
import SluiceStreams

/// The beginning of a refusal's body, which may say why.
package enum RefusalBody {
  private static let maxBytes = 1024
  /// The status is what matters: a body that does not come is not waited for.
  private static let patience = Duration.milliseconds(500)

  /// Reads 1024 bytes at the most, for half a second at the most, without the chunks' framing. The stream can't be used any more then. On its loop.
  /// - Parameter rest: What was read behind the head.
  package static func start(
    of response: HTTPResponse, behind rest: Bytes, from stream: some PolledDuplexStream<Bytes, Bytes>
  ) async -> Bytes {
    guard ![204, 304].contains(response.status.code), var body = Body(response.headerFields) else { return Bytes() }
    let timer = stream.loop.schedule(after: patience) { stream.abort(StreamError.aborted) }
    defer { stream.loop.cancelTimer(timer) }
    var next: Bytes? = rest
    while let bytes = next, body.take(bytes) { next = try? await stream.read() }
    return body.start.take()
  }

  private struct Body: ~Copyable {
    private enum Decoder {
      case chunked(ChunkedDecoder)
      case length(LengthDecoder)
      case untilEnd
    }
    private var decoder: Decoder
    var start = BytesBuilder()

    /// - Returns: nil if there is no body, or it can't be read as text.
    init?(_ headers: HTTPFields) {
      guard let framing = try? BodyFraming(ofResponse: headers) else { return nil }
      switch framing {
      case .unspecified: decoder = .untilEnd
      case .length(0): return nil
      case .length(let length): decoder = .length(LengthDecoder(length))
      case .chunked: decoder = .chunked(ChunkedDecoder())
      case .coded: return nil
      }
    }

    /// - Returns: whether more is wanted.
    mutating func take(_ bytes: Bytes) -> Bool {
      var parts = TransformOutput<Bytes>()
      let isWell = (try? decode(bytes, into: &parts)) != nil
      while let part = parts.popFirst() { start.append(part.prefix(maxBytes - start.count)) }
      return isWell && !parts.hasEnded && start.count < maxBytes
    }

    private mutating func decode(_ bytes: Bytes, into parts: inout TransformOutput<Bytes>) throws {
      switch decoder {
      case .chunked(var chunked):
        defer { decoder = .chunked(chunked) }
        try chunked.transform(bytes, into: &parts)
      case .length(var length):
        defer { decoder = .length(length) }
        try length.transform(bytes, into: &parts)
      case .untilEnd: parts.append(bytes)
      }
    }
  }
}
