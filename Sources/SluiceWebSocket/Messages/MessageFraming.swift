import SluiceStreams
import SluiceWebSocketProtocol

/// Where messages begin and end in a stream of bytes.
public enum MessageFraming: Hashable, Sendable {
  /// A message per line. The line's end (LF or CRLF) is not part of it; LF is written behind each message.
  case lines
  /// A message between NUL bytes.
  case nullTerminated
  /// A message behind its length: 4 bytes, big-endian, unless the prefix has another form.
  case lengthPrefixed(LengthPrefix = LengthPrefix())
  /// A message behind a header with its length, as language servers and debug adapters (LSP, DAP) have it: `Content-Length: 5`, an empty line, 5 bytes.
  case contentLength
  /// A message between separators, which are one byte or more.
  case separated(by: Bytes)
  /// A message per so many bytes; received messages are written one behind the other.
  case chunks(Int)
  /// A message per chunk as it is read; received messages are written one behind the other, as they arrive.
  case none
}

/// Makes messages of a stream of bytes.
public struct MessageDecoder: Transform {
  private enum Cutter: Sendable {
    case delimiter(DelimiterDecoder)
    case lengthPrefix(LengthPrefixDecoder)
    case contentLength(ContentLengthDecoder)
    case separator(SeparatorDecoder)
    case chunks(ChunkTransform)
    case none
  }
  private var cutter: Cutter
  private let kind: MessageKind
  private var messageCount = 0

  /// - Parameters:
  ///   - kind: Of every message.
  ///   - limit: Bytes of a message that follows from delimiters or lengths. Default: 64 MiB - 1.
  public init(_ framing: MessageFraming, kind: MessageKind, limit: Int = DelimiterDecoder.defaultLimit) {
    self.kind = kind
    cutter =
      switch framing {
      case .lines: .delimiter(DelimiterDecoder(UInt8(ascii: "\n"), dropsCarriageReturn: true, limit: limit))
      case .nullTerminated: .delimiter(DelimiterDecoder(0, limit: limit))
      case .lengthPrefixed(let prefix): .lengthPrefix(LengthPrefixDecoder(prefix, limit: limit))
      case .contentLength: .contentLength(ContentLengthDecoder(limit: limit))
      case .separated(let separator): .separator(SeparatorDecoder(separator, limit: limit))
      case .chunks(let size): .chunks(ChunkTransform(size: size))
      case .none: .none
      }
  }

  /// - Throws: `MessageFramingError` if a text message would not be UTF-8, and what the framing throws.
  public mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Message>) throws {
    let input = input
    try cut(into: &output) { cutter, pieces in
      switch cutter {
      case .delimiter(var decoder):
        try decoder.transform(input, into: &pieces)
        cutter = .delimiter(decoder)
      case .lengthPrefix(var decoder):
        try decoder.transform(input, into: &pieces)
        cutter = .lengthPrefix(decoder)
      case .chunks(var decoder):
        try decoder.transform(input, into: &pieces)
        cutter = .chunks(decoder)
      case .contentLength(var decoder):
        cutter = .none
        defer { cutter = .contentLength(decoder) }
        try decoder.transform(input, into: &pieces)
      case .separator(var decoder):
        cutter = .none
        defer { cutter = .separator(decoder) }
        try decoder.transform(input, into: &pieces)
      case .none: pieces.append(input)
      }
    }
  }

  public mutating func resume(into output: inout TransformOutput<Message>) throws {
    try cut(into: &output) { cutter, pieces in
      switch cutter {
      case .delimiter(var decoder):
        try decoder.resume(into: &pieces)
        cutter = .delimiter(decoder)
      case .lengthPrefix(var decoder):
        try decoder.resume(into: &pieces)
        cutter = .lengthPrefix(decoder)
      case .chunks(var decoder):
        try decoder.resume(into: &pieces)
        cutter = .chunks(decoder)
      case .contentLength(var decoder):
        cutter = .none
        defer { cutter = .contentLength(decoder) }
        try decoder.resume(into: &pieces)
      case .separator(var decoder):
        cutter = .none
        defer { cutter = .separator(decoder) }
        try decoder.resume(into: &pieces)
      case .none: break
      }
    }
  }

  public mutating func finish(into output: inout TransformOutput<Message>) throws {
    try cut(into: &output) { cutter, pieces in
      switch cutter {
      case .delimiter(var decoder): try decoder.finish(into: &pieces)
      case .lengthPrefix(var decoder): try decoder.finish(into: &pieces)
      case .chunks(var decoder): try decoder.finish(into: &pieces)
      case .contentLength(var decoder): try decoder.finish(into: &pieces)
      case .separator(var decoder): try decoder.finish(into: &pieces)
      case .none: break
      }
    }
  }

  private mutating func cut(
    into output: inout TransformOutput<Message>,
    _ body: (inout Cutter, inout TransformOutput<Bytes>) throws -> Void
  ) throws {
    var pieces = TransformOutput<Bytes>()
    var taken = Cutter.none
    swap(&taken, &cutter)
    // What was cut before an error is given first.
    let result = Result { try body(&taken, &pieces) }
    cutter = taken
    if pieces.isPaused { output.pause() }
    while let piece = pieces.popFirst() {
      messageCount += 1
      if kind == .text && !UTF8Validator.isValid(piece.span) {
        throw MessageFramingError.notText(message: messageCount)
      }
      output.append(Message(kind: kind, bytes: piece))
    }
    try result.get()
  }
}

/// Writes messages into a stream of bytes.
public struct MessageEncoder: Transform {
  private let framing: MessageFraming

  public init(_ framing: MessageFraming) { self.framing = framing }

  public func transform(_ input: consuming Message, into output: inout TransformOutput<Bytes>) throws {
    switch framing {
    case .lines: DelimiterEncoder(UInt8(ascii: "\n")).transform(input.bytes, into: &output)
    case .nullTerminated: DelimiterEncoder(0).transform(input.bytes, into: &output)
    case .lengthPrefixed(let prefix): try LengthPrefixEncoder(prefix).transform(input.bytes, into: &output)
    case .contentLength: ContentLengthEncoder().transform(input.bytes, into: &output)
    case .separated(let separator): SeparatorEncoder(separator: separator).transform(input.bytes, into: &output)
    case .chunks, .none: output.append(input.bytes)
    }
  }
}

/// Bytes that can't become a message.
public enum MessageFramingError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The message of this number, counted from 1, is to be text, and is not UTF-8.
  case notText(message: Int)
  /// The header of the message of this number, counted from 1, has no `Content-Length`, several, or one that is no number.
  case malformedHeader(message: Int)

  public var description: String {
    switch self {
    case .malformedHeader(let number): "the header of message \(number) does not have one Content-Length"
    case .notText(let number): "message \(number) is not valid UTF-8 and can't be sent as text; send it as binary"
    }
  }
}

extension DuplexStream where Output == Bytes, Input == Bytes {
  /// This stream of bytes as a stream of messages.
  ///
  /// ```swift
  /// try await bridge(StandardIO().messages(.lines), ws)
  /// ```
  public func messages(
    _ framing: MessageFraming, kind: MessageKind = .text, limit: Int = DelimiterDecoder.defaultLimit
  ) -> JoinedStream<TransformedStream<Self, MessageDecoder>, TransformedSink<MessageEncoder, Self>> {
    JoinedStream(
      reading: pipe(through: MessageDecoder(framing, kind: kind, limit: limit)),
      writing: behind(MessageEncoder(framing)), endsAsOne: endsAsOne,
      endsWithReader: endsWithReader)
  }
}

extension WritableStream where Input == Bytes {
  /// This sink of bytes as one of messages.
  ///
  /// ```swift
  /// try await ws.pipe(File.append("feed.log").messages(.lines))
  /// ```
  public func messages(_ framing: MessageFraming) -> TransformedSink<MessageEncoder, Self> {
    behind(MessageEncoder(framing))
  }
}

/// Connects a stream of bytes with a WebSocket; see `bridge(_:_:options:)`.
///
/// ```swift
/// try await bridge(StandardIO(), ws)     // a line in is a message out, and back
/// ```
public func bridge<A: DuplexStream>(
  _ bytes: A, _ socket: WebSocket, framing: MessageFraming = .lines, kind: MessageKind = .text,
  options: BridgeOptions = BridgeOptions()
) async throws where A.Output == Bytes, A.Input == Bytes {
  try await bridge(bytes.messages(framing, kind: kind), socket, options: options)
}
