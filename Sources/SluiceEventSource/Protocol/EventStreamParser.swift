import SluiceStreams

/// Limits of an event stream that is read.
public struct EventStreamLimits: Sendable, Hashable {
  /// Bytes of one line. Default: 1 MiB.
  public var maxLineBytes: Int
  /// Bytes of one event's data. Default: 16 MiB.
  public var maxEventBytes: Int
  /// Bytes that a compressed stream may grow to between two events, where they are more than a hundred times what was sent: a bomb, rather than
  /// an event. Default: 32 MiB.
  public var maxInflatedBytes: Int

  public init(maxLineBytes: Int = 1 << 20, maxEventBytes: Int = 16 << 20, maxInflatedBytes: Int = 32 << 20) {
    self.maxLineBytes = maxLineBytes
    self.maxEventBytes = maxEventBytes
    self.maxInflatedBytes = maxInflatedBytes
  }
}

/// Reads an event stream as the HTML standard says (§9.2.5, §9.2.6), however its bytes are cut. Each byte is looked at once.
///
/// ```swift
/// let events = body.pipe(through: EventStreamParser())
/// ```
public struct EventStreamParser: Transform {
  public typealias Input = Bytes
  public typealias Output = ServerSentEvent

  let limits: EventStreamLimits
  private var line: [UInt8] = []
  private var start = Start.mayHaveMark(0)
  private var endedWithCarriageReturn = false

  private var data: [UInt8] = []
  private var hasData = false
  private var event: [UInt8] = []
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
    var rest = input[...]
    if case .mayHaveMark(let count) = start { rest = try passMark(rest, count, &output) }
    while !rest.isEmpty {
      if endedWithCarriageReturn {
        endedWithCarriageReturn = false
        if rest.first == 0x0A {
          rest = rest.dropFirst()
          continue
        }
      }
      let part = rest.prefix { $0 != 0x0A && $0 != 0x0D }
      try append(part)
      rest = rest[part.endIndex...]
      guard let end = rest.popFirst() else { return }
      endedWithCarriageReturn = end == 0x0D
      try endLine(&output)
    }
  }

  /// What is not ended by an empty line is no event.
  public mutating func finish(into output: inout TransformOutput<ServerSentEvent>) throws {}

  private mutating func passMark(
    _ input: Bytes, _ count: Int, _ output: inout TransformOutput<ServerSentEvent>
  ) throws -> Bytes {
    var count = count
    var rest = input
    while count < Self.mark.count, let byte = rest.first {
      guard byte == Self.mark[count] else {
        // It was none: what looked like it belongs to the first line.
        start = .passed
        line = Array(Self.mark[..<count])
        return rest
      }
      count += 1
      rest = rest.dropFirst()
    }
    start = count == Self.mark.count ? .passed : .mayHaveMark(count)
    return rest
  }

  private mutating func append(_ part: Bytes) throws {
    let count = line.count + part.count
    guard count <= limits.maxLineBytes else {
      throw StreamError.limitExceeded(what: "a line of an event stream", limit: limits.maxLineBytes, actual: count)
    }
    line.append(contentsOf: part)
  }

  private mutating func endLine(_ output: inout TransformOutput<ServerSentEvent>) throws {
    defer { line.removeAll(keepingCapacity: line.capacity < 1 << 12) }
    if line.isEmpty { return dispatch(&output) }
    let colon = line.firstIndex(of: UInt8(ascii: ":"))
    let name = line[..<(colon ?? line.endIndex)]
    var value = line[(colon.map { $0 + 1 } ?? line.endIndex)...]
    if value.first == 0x20 { value = value.dropFirst() }
    switch String(decoding: name, as: UTF8.self) {
    case "data":
      let count = data.count + value.count + 1
      guard count <= limits.maxEventBytes else {
        throw StreamError.limitExceeded(what: "an event's data", limit: limits.maxEventBytes, actual: count)
      }
      if hasData { data.append(0x0A) }
      data.append(contentsOf: value)
      hasData = true
    case "event": event = Array(value)
    case "id": if !value.contains(0) { nextID = String(decoding: value, as: UTF8.self) }
    case "retry": setRetry(value)
    // A comment has no name, and what is unknown says nothing.
    default: break
    }
  }

  /// Digits and nothing else; a number beyond what can be waited for says nothing either.
  private mutating func setRetry(_ digits: ArraySlice<UInt8>) {
    guard !digits.isEmpty, digits.allSatisfy({ (0x30...0x39).contains($0) }),
      let milliseconds = Int64(String(decoding: digits, as: UTF8.self)), milliseconds < Int64.max / 1_000_000
    else { return }
    retry = .milliseconds(milliseconds)
  }

  private mutating func dispatch(_ output: inout TransformOutput<ServerSentEvent>) {
    lastEventID = nextID
    defer {
      data = []
      hasData = false
      event = []
    }
    guard hasData else { return }
    output.append(
      ServerSentEvent(
        String(decoding: data, as: UTF8.self), event: event.isEmpty ? nil : String(decoding: event, as: UTF8.self),
        id: lastEventID))
  }
}
