import SluiceStreams

/// A place in the log of a topic: behind one message, before the next.
///
/// It is text for others to keep, 64 characters at the most, of letters, digits, `.`, `_` and `-`: as an event's `id`, in `Last-Event-ID`, in a query, in a
/// cookie. Only the engine that gave it can say what it means: a log that was lost or restored from a copy *knows* which of its old positions are void.
///
/// ```swift
/// let position = try await topic.append("hello")
/// let same = Position("\(position)")
/// ```
public struct Position: Hashable, Sendable, LosslessStringConvertible {
  /// Which life of the log it belongs to: see `LogState`.
  package let epoch: String
  /// The number of the message that it stands behind.
  package let offset: UInt64

  /// Characters of the text.
  public static let maxLength = 64

  package init(epoch: String, offset: UInt64) {
    self.epoch = epoch
    self.offset = offset
  }

  /// - Returns: nil for what no topic has given: a visitor can send anything.
  public init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count <= Self.maxLength, bytes.allSatisfy(Self.isAllowed),
      let dot = bytes.lastIndex(of: UInt8(ascii: ".")), dot > 0
    else { return nil }
    let digits = bytes[(dot + 1)...]
    // One spelling each, so that equal positions are equal texts.
    guard let first = digits.first, digits.allSatisfy(ASCII.isDigit), first != UInt8(ascii: "0") || digits.count == 1,
      let offset = UInt64(String(decoding: digits, as: UTF8.self))
    else { return nil }
    epoch = String(decoding: bytes[..<dot], as: UTF8.self)
    self.offset = offset
  }

  public var description: String { "\(epoch).\(offset)" }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    ASCII.isLetter(byte) || ASCII.isDigit(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
      || byte == UInt8(ascii: "-")
  }
}

extension Position: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let position = Position(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a position of a topic")
    }
    self = position
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
