import DequeModule

/// What was written and may have to be written again: what waits for a connection, and what a connection has taken but the system,
/// as far as it is known, has not. A value that does no I/O.
struct UnsentElements<Element: Sendable> {
  /// An element with its place on a connection's wire.
  private struct Pushed {
    var element: Element
    var start: Int
    let end: Int
  }

  private let resumePoint: ResumePoint<Element>
  private var pushed = Deque<Pushed>()
  private var queue = Deque<Element>()
  /// Whether there is something in `queue` that no connection's system has taken; otherwise it holds the beginning of a line.
  private var queueIsOwed = false

  /// How far back a beginning is looked for.
  private static var maxElementsBack: Int { 64 }
  private static var maxBytesBack: Int { 64 << 10 }

  // What has left is looked for when so much is kept, and not at each element: the looking goes through all of it.
  private static var minTrimCount: Int { 256 }
  private static var trimByteCount: Int { 256 << 10 }
  private var trimCount = Self.minTrimCount

  init(resumingAt resumePoint: ResumePoint<Element>) { self.resumePoint = resumePoint }

  mutating func append(_ element: Element) {
    queue.append(contentsOf: resumePoint.pieces(element))
    queueIsOwed = true
  }

  /// Whether something waits to be pushed.
  var hasQueued: Bool { !queue.isEmpty }

  /// What waits to be pushed: bytes; elements, where they are not bytes.
  var queuedByteCount: Int { queue.reduce(0) { $0 + (($1 as? any ByteCounted)?.byteCount ?? 1) } }

  /// The next element that is to be pushed.
  mutating func popQueued() -> Element? { queue.popFirst() }

  /// Takes back what could not be pushed.
  mutating func putBack(_ element: Element) {
    queue.prepend(element)
    queueIsOwed = true
  }

  mutating func didPush(_ element: Element, from start: Int, to end: Int) {
    pushed.append(Pushed(element: element, start: start, end: end))
  }

  /// Whether there is something that the system has not taken.
  func isOwed(sent: Int) -> Bool { (queueIsOwed && !queue.isEmpty) || (pushed.last.map { $0.end > sent } ?? false) }

  /// Whether something waits for a connection.
  var isOwed: Bool { isOwed(sent: .max) }

  /// Whether so much is kept that `trim` is worth its time.
  var isWorthTrimming: Bool {
    guard let first = pushed.first, let last = pushed.last else { return false }
    return pushed.count >= trimCount || last.end - first.start >= Self.trimByteCount
  }

  /// Forgets what has left for good.
  mutating func trim(sent: Int) {
    defer { trimCount = Swift.max(Self.minTrimCount, 2 * pushed.count) }
    let begun = pushed.prefix { $0.end <= sent }.count
    if begun < pushed.count, cut(at: begun, sent: sent) { return }
    var back = 0
    var bytesBack = 0
    while back < begun, back < Self.maxElementsBack, bytesBack < Self.maxBytesBack {
      back += 1
      bytesBack += pushed[begun - back].end - pushed[begun - back].start
      if cut(at: begun - back, sent: sent) { return }
    }
    // A line so long goes on where it was.
    if back < begun { pushed.removeFirst(begun) }
  }

  /// Cuts the queue off before or in an element, if the resume point is there.
  private mutating func cut(at index: Int, sent: Int) -> Bool {
    let found = pushed[index]
    let progress = ResumePoint<Element>.Progress(
      sent: Swift.max(Swift.min(sent, found.end) - found.start, 0), wire: found.end - found.start)
    switch resumePoint.cut(found.element, progress) {
    case .further: return false
    case .nothing: pushed.removeFirst(index + 1)
    case .all: pushed.removeFirst(index)
    case .behind(let count):
      pushed.removeFirst(index)
      pushed[0].element = resumePoint.dropFirst(found.element, count)
      pushed[0].start = found.start + count
    }
    return true
  }

  /// The connection was lost: what it had not sent is the next one's.
  mutating func takeBack(sent: Int) {
    trim(sent: sent)
    queueIsOwed = isOwed(sent: sent)
    while let last = pushed.popLast() {
      Reached.mark("reconnecting.takenBack")
      queue.prepend(last.element)
    }
  }

  mutating func removeAll() {
    pushed.removeAll()
    queue.removeAll()
  }
}
