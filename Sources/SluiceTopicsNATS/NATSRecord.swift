#if NATS
  import SluiceStreams
  import SluiceTopics

  /// One message of a stream: what was appended together, so that it is stored as a whole or not at all; and what there is of the log then. So the newest record
  /// tells all, and each is made from the one before it: JetStream stores it only if that is the newest still.
  ///
  /// Numbers are in groups of seven bits, the lowest first (LEB128); texts and data have their length before them.
  struct NATSRecord: Sendable {
    /// A record, as those behind it remember it.
    struct Base: Hashable, Sendable {
      var sequence: UInt64
      /// The number of its first message.
      var offset: UInt64
      /// Of all messages before it.
      var bytes: UInt64
      /// Milliseconds since 1970.
      var time: UInt64
    }
    /// A writer that numbers its messages, and its newest one.
    struct Writer: Hashable, Sendable {
      var name: String
      var number: UInt64
      var offset: UInt64
      var time: UInt64
    }

    /// Of the server: see `NATSLink.life`.
    var life: String
    /// Oldest first, one at least; the last one ends with this record.
    var epochs: [LogEpoch]
    /// The number of the oldest message that counts as there; nil if there is none.
    var earliest: UInt64?
    /// The oldest record that is kept.
    var base: Base
    /// Of all messages before this record.
    var bytesBefore: UInt64
    /// Milliseconds since 1970, by the clock of who appended it.
    var time: UInt64
    /// Where the newest list of writers is; 0: there is none.
    var writersAt: UInt64
    var writers: [Writer]
    /// Who appended it, and the number of the first message.
    var writer: String
    var firstNumber: UInt64
    var count: UInt64
    /// Bytes of all its messages.
    var byteCount: Int
    /// Without what was not decoded.
    var contents: [TopicContent]

    var last: UInt64 { epochs[epochs.count - 1].last }
    var firstOffset: UInt64 { last - count + 1 }
    var state: LogState? { LogState(epochs: epochs, earliest: earliest) }

    static func milliseconds(_ time: Duration) -> UInt64 { UInt64(clamping: time.bounded.wholeMilliseconds) }

    private static let version: UInt8 = 1

    var encoded: Bytes {
      var builder = BytesBuilder(capacity: contents.reduce(256) { $0 + $1.byteCount + 12 })
      builder.append(Self.version)
      builder.append(text: life)
      builder.append(number: UInt64(epochs.count))
      for epoch in epochs {
        builder.append(text: epoch.name)
        builder.append(number: epoch.first)
        // One more than its last number less its first: 0 while it is empty.
        builder.append(number: epoch.last + 1 - epoch.first)
      }
      for number in [
        earliest ?? 0, base.sequence, base.offset, base.bytes, base.time, bytesBefore, time, writersAt,
        UInt64(writers.count),
      ] { builder.append(number: number) }
      for writer in writers {
        builder.append(text: writer.name)
        for number in [writer.number, writer.offset, writer.time] { builder.append(number: number) }
      }
      builder.append(text: writer)
      builder.append(number: firstNumber)
      builder.append(number: UInt64(contents.count))
      builder.append(number: UInt64(byteCount))
      for content in contents {
        builder.append((content.kind == .binary ? 1 : 0) | (content.event == nil ? 0 : 2))
        if let event = content.event { builder.append(text: event) }
        builder.append(number: UInt64(content.bytes.count))
        builder.append(content.bytes)
      }
      return builder.take()
    }
  }

  extension NATSRecord {
    /// - Parameter withContents: Otherwise only what there is of the log.
    /// - Returns: nil for what Sluice does not write.
    init?(_ bytes: Bytes, withContents: Bool) {
      var reader = NATSRecordReader(bytes)
      guard reader.byte() == Self.version, let life = reader.text(), let epochCount = reader.number(),
        (1...1024).contains(epochCount)
      else { return nil }
      self.life = life
      epochs = []
      for _ in 0..<epochCount {
        guard let name = reader.text(), let first = reader.number(), LogState.numbers.contains(first),
          let count = reader.number(), count <= LogState.numbers.upperBound, Position("\(name).0") != nil
        else { return nil }
        epochs.append(LogEpoch(name: name, first: first, last: first - 1 + count))
      }
      guard let earliest = reader.number(), let sequence = reader.number(), let offset = reader.number(),
        let baseBytes = reader.number(), let baseTime = reader.number(), let bytesBefore = reader.number(),
        let time = reader.number(), let writersAt = reader.number(), let writerCount = reader.number(),
        writerCount <= 1 << 16
      else { return nil }
      self.earliest = earliest == 0 ? nil : earliest
      base = Base(sequence: sequence, offset: offset, bytes: baseBytes, time: baseTime)
      (self.bytesBefore, self.time, self.writersAt) = (bytesBefore, time, writersAt)
      writers = []
      for _ in 0..<writerCount {
        guard let name = reader.text(), let number = reader.number(), let offset = reader.number(),
          let time = reader.number()
        else { return nil }
        writers.append(Writer(name: name, number: number, offset: offset, time: time))
      }
      guard let writer = reader.text(), let firstNumber = reader.number(), let count = reader.number(),
        let byteCount = reader.number().flatMap({ Int(exactly: $0) }), let epoch = epochs.last, epoch.last >= count,
        epoch.last - count + 1 >= epoch.first,
        LogState(epochs: epochs, earliest: self.earliest) != nil
      else { return nil }
      (self.writer, self.firstNumber, self.count, self.byteCount) = (writer, firstNumber, count, byteCount)
      contents = []
      guard withContents else { return }
      for _ in 0..<count {
        guard let flags = reader.byte(), flags < 4 else { return nil }
        var event: String?
        if flags & 2 != 0 {
          guard let text = reader.text() else { return nil }
          event = text
        }
        guard let data = reader.data() else { return nil }
        contents.append(TopicContent(kind: flags & 1 != 0 ? .binary : .text, bytes: data, event: event))
      }
      guard reader.isAtEnd else { return nil }
    }

    /// Those behind a number, each with its position.
    func messages(after offset: UInt64, in state: LogState) -> [TopicMessage] {
      var messages: [TopicMessage] = []
      var number = firstOffset
      for content in contents {
        if number > offset {
          messages.append(
            TopicMessage(
              position: state.position(of: number), content: content, time: .milliseconds(Int64(clamping: time))))
        }
        number += 1
      }
      return messages
    }
  }

  private struct NATSRecordReader {
    private let bytes: Bytes
    private var index: Int

    init(_ bytes: Bytes) {
      self.bytes = bytes
      index = bytes.startIndex
    }

    var isAtEnd: Bool { index == bytes.endIndex }

    mutating func byte() -> UInt8? {
      guard index < bytes.endIndex else { return nil }
      defer { index += 1 }
      return bytes[index]
    }

    mutating func number() -> UInt64? {
      var number: UInt64 = 0
      for shift in stride(from: UInt64(0), to: 63, by: 7) {
        guard let byte = byte() else { return nil }
        number |= UInt64(byte & 0x7F) << shift
        if byte < 0x80 { return number }
      }
      return nil
    }

    mutating func data() -> Bytes? {
      guard let count = number().flatMap({ Int(exactly: $0) }), count <= bytes.endIndex - index else { return nil }
      defer { index += count }
      // A copy: one that is kept does not keep the others.
      return Bytes(bytes[index..<(index + count)]).compacted()
    }

    mutating func text() -> String? { data()?.string }
  }

  extension BytesBuilder {
    fileprivate mutating func append(number: UInt64) {
      var rest = number
      while rest >= 0x80 {
        append(UInt8(truncatingIfNeeded: rest) | 0x80)
        rest >>= 7
      }
      append(UInt8(truncatingIfNeeded: rest))
    }

    fileprivate mutating func append(text: String) {
      append(number: UInt64(text.utf8.count))
      append(text)
    }
  }
#endif
