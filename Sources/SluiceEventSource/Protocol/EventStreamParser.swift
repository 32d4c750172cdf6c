import SluiceStreams

/// Reads an event stream as the HTML standard says (§9.2.5, §9.2.6), however its bytes are cut. Each byte is looked at once, and of a line that
/// has not ended only what will be part of the event is held.
///
/// ```swift
/// let events = body.pipe(through: EventStreamParser())
/// ```
public struct EventStreamParser: Transform {
  public typealias Input = Bytes
  public typealias Output = ServerSentEvent

  let limits: EventStreamLimits
  /// What is still to be looked at, behind a pause.
  private var unread = Bytes()
  private var start = Start.mayHaveMark(0)
  private var line = Line.name(FieldName())
  private var endedWithCarriageReturn = false

  private var data: [UInt8] = []
  private var hasData = false
  private var event: [UInt8] = []
  /// The value of a line that counts when it has ended: an id, a time.
  private var draft: [UInt8] = []
  /// The id that was read, which counts from the next empty line on.
  private var nextID: String?

  /// The id of the last event, as it is named when the client comes back.
  public private(set) var lastEventID: String?
  /// What the server said last of how long to wait before coming back.
  public private(set) var retry: Duration?

  /// The byte order mark, which may stand at the beginning.
  private enum Start {
    /// So many bytes of it have come.
    case mayHaveMark(Int)
    case passed
  }
  private static let mark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// How far the line has come.
  private enum Line {
    /// Its colon has not.
    case name(FieldName)
    /// - isAtStart: Nothing has come behind the colon: a space there is not part of the value.
    case value(Field, isAtStart: Bool)
  }

  private enum Field {
    case data, event, id, retry
    /// A comment, whose name is empty, or what is unknown.
    case other
  }

  /// A name as it comes: as many bytes as the longest that is known, behind a 1.
  private struct FieldName {
    private var bytes: UInt64 = 1

    var isEmpty: Bool { bytes == 1 }

    /// - Returns: how many bytes of `part` belong to the name, with its colon; nil if it goes on behind them.
    mutating func end(in part: Span<UInt8>) -> Int? {
      for offset in part.indices {
        if part[offset] == UInt8(ascii: ":") { return offset + 1 }
        guard bytes < 1 << 40 else {
          bytes = 0
          return offset
        }
        append(part[offset])
      }
      return nil
    }

    mutating func append(_ byte: UInt8) { bytes = bytes << 8 | UInt64(byte) }

    var field: Field {
      switch bytes {
      case 0x01_64_61_74_61: .data
      case 0x01_65_76_65_6E_74: .event
      case 0x01_69_64: .id
      case 0x01_72_65_74_72_79: .retry
      default: .other
      }
    }
  }

  /// - Parameter lastEventID: That of an earlier connection.
  public init(limits: EventStreamLimits = EventStreamLimits(), lastEventID: String? = nil) {
    self.limits = limits
    self.lastEventID = lastEventID
    nextID = lastEventID
  }

  /// - Throws: `StreamError.limitExceeded`.
  public mutating func transform(
    _ input: consuming Bytes, into output: inout TransformOutput<ServerSentEvent>
  ) throws {
    unread = unread.followed(by: input)
    try resume(into: &output)
  }

  public mutating func resume(into output: inout TransformOutput<ServerSentEvent>) throws {
    var rest = unread
    unread = Bytes()
    while !output.isFull {
      guard let event = try next(from: &rest) else { return }
      output.append(event)
    }
    unread = rest.compacted()
    if !unread.isEmpty { output.pause() }
  }

  /// An event that is not ended by an empty line is dropped.
  public mutating func finish(into output: inout TransformOutput<ServerSentEvent>) throws {
    var rest = unread
    while let event = try next(from: &rest) { output.append(event) }
    unread = Bytes()
  }

  /// Takes what the next event needs off the beginning of `input`.
  /// - Returns: nil when all of it was taken.
  /// - Throws: `StreamError.limitExceeded`.
  package mutating func next(from input: inout Bytes) throws -> ServerSentEvent? {
    if case .mayHaveMark(let count) = start { input = passMark(input, count) }
    while !input.isEmpty {
      if endedWithCarriageReturn {
        endedWithCarriageReturn = false
        if input.first == 0x0A {
          input = input.dropFirst()
          continue
        }
      }
      let (count, end) = input.firstLine
      try take(input.prefix(count))
      guard let end else {
        input = Bytes()
        return nil
      }
      endedWithCarriageReturn = end == 0x0D
      input = input.dropFirst(count + 1)
      if let event = try endLine() { return event }
    }
    return nil
  }

  private mutating func passMark(_ input: Bytes, _ count: Int) -> Bytes {
    var count = count
    var rest = input
    while count < Self.mark.count, let byte = rest.first {
      guard byte == Self.mark[count] else {
        // It was none: what looked like it belongs to the first line.
        start = .passed
        var name = FieldName()
        for byte in Self.mark[..<count] { name.append(byte) }
        line = .name(name)
        return rest
      }
      count += 1
      rest = rest.dropFirst()
    }
    start = count == Self.mark.count ? .passed : .mayHaveMark(count)
    return rest
  }

  // MARK: lines

  /// Takes a part of a line.
  private mutating func take(_ part: Bytes) throws {
    var part = part
    if case .name(var name) = line {
      guard let length = name.end(in: part.span) else {
        line = .name(name)
        return
      }
      try begin(name.field)
      part = part.dropFirst(length)
    }
    guard case .value(let field, let isAtStart) = line, let first = part.first else { return }
    if isAtStart {
      line = .value(field, isAtStart: false)
      if first == 0x20 { part = part.dropFirst() }
    }
    switch field {
    case .data:
      try checkRoom(for: part.count)
      data.append(contentsOf: part)
    case .event:
      try checkRoom(for: part.count)
      event.append(contentsOf: part)
    case .id, .retry:
      try checkRoom(for: part.count)
      draft.append(contentsOf: part)
    case .other: break
    }
  }

  private func checkRoom(for count: Int) throws {
    let count = data.count + event.count + draft.count + count
    guard count <= limits.maxEventBytes else {
      throw StreamError.limitExceeded(what: "an event", limit: limits.maxEventBytes, actual: count)
    }
  }

  private mutating func begin(_ field: Field) throws {
    switch field {
    case .data:
      if hasData {
        try checkRoom(for: 1)
        data.append(0x0A)
      }
      hasData = true
    case .event: event = []
    case .id, .retry, .other: break
    }
    line = .value(field, isAtStart: true)
  }

  private mutating func endLine() throws -> ServerSentEvent? {
    if case .name(let name) = line {
      if name.isEmpty { return dispatch() }
      // A field without a colon is empty.
      try begin(name.field)
    }
    if case .value(let field, _) = line {
      switch field {
      case .id:
        if !draft.contains(0) { nextID = String(decoding: draft, as: UTF8.self) }
        draft = []
      case .retry:
        setRetry(draft)
        draft = []
      case .data, .event, .other: break
      }
    }
    line = .name(FieldName())
    return nil
  }

  /// Digits and nothing else; a number beyond what can be waited for says nothing either.
  private mutating func setRetry(_ digits: [UInt8]) {
    guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x39).contains($0) }),
      let milliseconds = Int64(String(decoding: digits, as: UTF8.self)), milliseconds < Int64.max / 1_000_000
    else { return }
    retry = .milliseconds(milliseconds)
  }

  private mutating func dispatch() -> ServerSentEvent? {
    lastEventID = nextID
    defer {
      data.removeAll(keepingCapacity: data.capacity <= Self.keptCapacity)
      hasData = false
      event = []
    }
    guard hasData else { return nil }
    return ServerSentEvent(
      String(decoding: data, as: UTF8.self), event: event.isEmpty ? nil : String(decoding: event, as: UTF8.self),
      id: lastEventID)
  }

  /// Bytes of memory that are kept from event to event.
  private static let keptCapacity = 4 << 10
}

extension Bytes {
  /// The bytes before the first LF or CR, and which of the two it is, if one is there.
  fileprivate var firstLine: (count: Int, end: UInt8?) {
    guard let offset = firstOffset(of: 0x0A, or: 0x0D) else { return (count, nil) }
    return (offset, span[offset])
  }
}
