import SluiceHTTP
import SluiceStreams

/// What an HTTP server reads of a request besides its head: chunked bodies of any bytes, cut anywhere, and the spelling of paths.
enum RequestsTarget: FuzzTarget {
  static let name = "requests"
  private static let limits = HeadLimits(maxHeadBytes: 500, maxFieldCount: 5)

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let isBody = reader.byte() & 1 == 0
    if !isBody { return path(reader.rest.string) }
    let whole = reader.rest.dropFirst()
    let pieces = reader.pieces()
    let expected = body([whole])
    promise(body(pieces) == expected, "a body depends on how it is cut")
    guard case .success(let found?) = expected else { return }
    let (decoded, rest) = (found.decoded, found.rest)
    // What was taken from it is what it says: written again it is the same body.
    var again = BytesBuilder()
    if !decoded.isEmpty { again.append(chunk: decoded.span) }
    again.appendLastChunk()
    again.append(rest)
    promise(body([again.take()]) == expected, "a body is another one when it is written again")
    promise(decoded.count + rest.count < whole.count, "more was read than was there")
  }

  private struct Body: Equatable {
    let decoded: Bytes
    let rest: Bytes
  }

  /// - Returns: nil without an end.
  private static func body(_ pieces: [Bytes]) -> Result<Body?, ChunkedBodyError> {
    var decoder = ChunkedDecoder(limits: limits)
    var output = TransformOutput<Bytes>()
    var decoded = BytesBuilder()
    var rest = BytesBuilder()
    do {
      for piece in pieces {
        if output.hasEnded {
          rest.append(piece)
          continue
        }
        try decoder.transform(piece, into: &output)
        while let part = output.popFirst() { decoded.append(part) }
        if output.hasEnded { rest.append(decoder.rest) }
      }
    } catch {
      guard let error = error as? ChunkedBodyError else { return .failure(.truncated) }
      return .failure(error)
    }
    return .success(output.hasEnded ? Body(decoded: decoded.take(), rest: rest.take()) : nil)
  }

  private static func path(_ text: String) {
    guard let path = RequestPath.normalized(("/" + text).wire) else { return }
    promise(path.utf8.first == UInt8(ascii: "/"), "\(path) has no root")
    promise(RequestPath.normalized(path.wire) == path, "\(path) has two spellings")
    let segments = path.wire.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    promise(!segments.contains { $0.equals(".") || $0.equals("..") }, "\(path) has dot segments")
    promise(path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }, path)
    for segment in segments {
      guard let bytes = PercentEncoding.decode(segment) else { return promise(false, "\(path) can't be decoded") }
      promise(RequestPath.encoded(bytes).utf8.elementsEqual(segment), "\(segment.text) is spelled otherwise")
    }
  }

  // MARK: inputs

  private static let bodyParts: [StaticString] = [
    "1\r\nx\r\n", "0\r\n\r\n", "0\r\n", "2", "\r\n", "ab", ";a", ";a=b", "=\"", "\"", "\\", " ", "a: b\r\n", "\r", "\n",
    "A", "0", ";",
  ]
  private static let pathParts: [StaticString] = [
    "/", ".", "..", "%2e", "%2F", "%", "%41", "%7e", "%00", "%C3%A9", "a", ";", "!", "|", "\\", "%zz", "%25", "//",
    "/../", "/./",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    let isBody = generator.below(2) == 0
    let parts = isBody ? bodyParts : pathParts
    builder.append(isBody ? 0 : 1)
    if isBody { builder.append(generator.byte()) }
    for _ in 0..<generator.below(20) {
      if generator.below(30) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
