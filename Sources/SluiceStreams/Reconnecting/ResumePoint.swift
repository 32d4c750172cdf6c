/// Where a `ReconnectingStream` begins on its next connection, when the last has taken a part of what was written.
public struct ResumePoint<Element: Sendable>: Sendable {
  /// What of an element is sent again.
  enum Cut: Equatable {
    case all
    case behind(Int)
    case nothing
    /// All of it, and what was before it too.
    case further
  }
  /// How much of an element has left.
  struct Progress {
    let sent: Int
    /// What the element is on the wire.
    let wire: Int

    var isComplete: Bool { sent >= wire }
  }

  let cut: @Sendable (Element, Progress) -> Cut
  let dropFirst: @Sendable (Element, Int) -> Element
  /// Elements are pushed in such pieces.
  let pieces: @Sendable (Element) -> [Element]

  /// With the whole element that was not, or not wholly, sent: for messages.
  public static var element: ResumePoint {
    ResumePoint(
      cut: { _, progress in progress.isComplete ? .nothing : .all }, dropFirst: { element, _ in element },
      pieces: { [$0] })
  }
}

extension ResumePoint where Element == Bytes {
  /// At the first byte that was not sent. In TLS, at the beginning of its record: a part of one can't be decrypted.
  public static var byte: ResumePoint {
    bytes { bytes, progress in
      if progress.isComplete { return .nothing }
      let left = plainCount(bytes, progress)
      return left == 0 ? .all : .behind(left)
    }
  }

  /// Behind the last delimiter that was sent, so that the next connection begins with a whole line: up to 64 KiB are sent again.
  public static func behind(_ delimiter: UInt8) -> ResumePoint {
    bytes { bytes, progress in
      let left = plainCount(bytes, progress)
      guard let last = bytes.prefix(left).lastIndex(of: delimiter) else { return .further }
      let count = last - bytes.startIndex + 1
      return count == bytes.count ? .nothing : .behind(count)
    }
  }

  private static func bytes(_ cut: @escaping @Sendable (Bytes, Progress) -> Cut) -> ResumePoint {
    ResumePoint(cut: cut, dropFirst: { bytes, count in bytes.dropFirst(count) }, pieces: { records($0) })
  }

  /// What the receiver can make of the bytes that have left.
  private static func plainCount(_ bytes: Bytes, _ progress: Progress) -> Int {
    if progress.isComplete { return bytes.count }
    return progress.wire == bytes.count ? progress.sent : 0
  }

  /// Each is one record in TLS (RFC 8446 §5.1), which is received as a whole or not at all.
  private static func records(_ bytes: Bytes) -> [Bytes] {
    let limit = 16 << 10
    if bytes.count <= limit { return [bytes] }
    var rest = bytes
    var pieces: [Bytes] = []
    while !rest.isEmpty {
      pieces.append(rest.prefix(limit))
      rest = rest.dropFirst(limit)
    }
    return pieces
  }
}
