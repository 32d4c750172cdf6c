import SluiceStreams

/// Cuts a stream of bytes into messages that each follow a header with their length, as the Language Server Protocol and the Debug Adapter Protocol
/// have it ("base protocol"): fields as in HTTP, of which `Content-Length` counts, an empty line, and so many bytes.
struct ContentLengthDecoder: Transform {
  private let limit: Int
  private var part = Part.header([])
  private var messageCount = 0
  /// What is still to be cut, behind a pause.
  private var rest = Bytes()

  /// Bytes of a header: far more than one has.
  static let headerLimit = 4096

  private enum Part: Sendable {
    /// What has come of it.
    case header([UInt8])
    case body(length: Int, [UInt8])
  }

  init(limit: Int) { self.limit = limit }

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    try cut(rest.followed(by: input), into: &output, pauses: true)
  }

  mutating func resume(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: true)
  }

  private mutating func cut(_ input: Bytes, into output: inout TransformOutput<Bytes>, pauses: Bool) throws {
    rest = Bytes()
    var input = input
    while !input.isEmpty {
      switch part {
      case .header(var header):
        part = .header([])
        var isWhole = false
        while !isWhole, let byte = input.first {
          input = input.dropFirst()
          header.append(byte)
          guard header.count <= Self.headerLimit else {
            throw StreamError.limitExceeded(what: "a message's header", limit: Self.headerLimit, actual: header.count)
          }
          isWhole = byte == UInt8(ascii: "\n") && header.endsWithEmptyLine
        }
        guard isWhole else {
          part = .header(header)
          return
        }
        messageCount += 1
        let length = try length(in: header)
        if length == 0 { output.append(Bytes()) } else { part = .body(length: length, []) }
      case .body(let length, var body):
        part = .header([])
        let piece = input.prefix(length - body.count)
        input = input.dropFirst(piece.count)
        if body.isEmpty && piece.count == length {
          output.append(piece)
        } else {
          body.append(contentsOf: piece)
          if body.count < length {
            part = .body(length: length, body)
            return
          }
          output.append(Bytes(body))
        }
      }
      if pauses && output.isFull && !input.isEmpty {
        rest = input.compacted()
        return output.pause()
      }
    }
  }

  private func length(in header: [UInt8]) throws -> Int {
    var found: Int?
    for line in header.split(whereSeparator: { $0 == UInt8(ascii: "\n") }) {
      guard let (name, value) = line.divided(at: UInt8(ascii: ":")), name.equalsIgnoringCase("content-length") else {
        continue
      }
      let digits = value.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        .prefix { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: " ") }
      guard found == nil, let length = digits.decimal else {
        throw MessageFramingError.malformedHeader(message: messageCount)
      }
      found = length
    }
    guard let found else { throw MessageFramingError.malformedHeader(message: messageCount) }
    guard found <= limit else { throw StreamError.limitExceeded(what: "a message", limit: limit, actual: found) }
    return found
  }

  /// - Throws: `StreamError.truncated` if the source ended inside a message.
  mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    try cut(rest, into: &output, pauses: false)
    switch part {
    case .header(let header):
      // Lines behind the last message are none.
      if header.contains(where: { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }) {
        throw StreamError.truncated(what: "a message's header", expected: header.count + 1, actual: header.count)
      }
    case .body(let length, let body):
      throw StreamError.truncated(what: "a message", expected: length, actual: body.count)
    }
  }
}

extension [UInt8] {
  fileprivate var endsWithEmptyLine: Bool {
    suffix(2).elementsEqual("\n\n".utf8) || suffix(4).elementsEqual("\r\n\r\n".utf8)
  }
}

/// Writes each message behind a header with its length.
struct ContentLengthEncoder: Transform {
  func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
    let input = input
    output.append(Bytes("Content-Length: \(input.count)\r\n\r\n"))
    if !input.isEmpty { output.append(input) }
  }
}
