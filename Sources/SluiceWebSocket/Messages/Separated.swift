import SluiceStreams

/// Cuts a stream of bytes into messages at a separator of several bytes, which is not part of them. What follows the last one is a message too, unless it is
/// empty.
struct SeparatorDecoder: Transform {
  private let separator: [UInt8]
  private let limit: Int
  /// What has come of messages that were not given.
  private var pending: [UInt8] = []
  /// Where the next message begins, and up to where there is no separator.
  private var start = 0
  private var searched = 0

  /// - Parameter separator: One byte or more.
  init(_ separator: Bytes, limit: Int) {
    self.separator = Array(separator)
    self.limit = limit
  }

  mutating func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) throws {
    pending.removeFirst(start)
    searched -= start
    start = 0
    pending.append(contentsOf: input)
    try cut(into: &output, pauses: true)
  }

  mutating func resume(into output: inout TransformOutput<Bytes>) throws { try cut(into: &output, pauses: true) }

  mutating func finish(into output: inout TransformOutput<Bytes>) throws {
    try cut(into: &output, pauses: false)
    // What might have become a separator belongs to the message.
    if start < pending.count { try give(pending.count, into: &output) }
    pending = []
    (start, searched) = (0, 0)
  }

  private mutating func cut(into output: inout TransformOutput<Bytes>, pauses: Bool) throws {
    while searched + separator.count <= pending.count {
      guard pending[searched] == separator[0], pending[searched...].starts(with: separator) else {
        searched += 1
        continue
      }
      try give(searched, into: &output)
      searched += separator.count
      start = searched
      if pauses && output.isFull { return output.pause() }
    }
    try check(leastCount)
  }

  /// Bytes that the message under way has at the least: up to where a separator may have begun.
  private var leastCount: Int {
    var end = searched
    while end < pending.count && !separator.starts(with: pending[end...]) { end += 1 }
    return end - start
  }

  private func give(_ end: Int, into output: inout TransformOutput<Bytes>) throws {
    try check(end - start)
    output.append(Bytes(pending[start..<end]))
  }

  private func check(_ count: Int) throws {
    guard count <= limit else {
      throw StreamError.limitExceeded(what: "a separated message", limit: limit, actual: count)
    }
  }
}

/// Writes a separator behind each message.
struct SeparatorEncoder: Transform {
  let separator: Bytes

  func transform(_ input: consuming Bytes, into output: inout TransformOutput<Bytes>) {
    var builder = BytesBuilder(capacity: input.count + separator.count)
    builder.append(input)
    builder.append(separator)
    output.append(builder.take())
  }
}
