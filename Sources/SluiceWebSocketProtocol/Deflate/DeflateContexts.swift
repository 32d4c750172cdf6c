import SluiceStreams
import SluiceZlib

/// zlib's contexts that the connections of one loop take turns with: they are lent for a message, and kept for the next.
///
/// Also where what they write goes, so that a connection holds no memory for it, and what was compressed last, so that a
/// message that is sent to many is compressed once.
package final class DeflateContexts: @unchecked Sendable {  // used on its loop only
  /// Contexts of either direction that are kept while nobody uses them.
  private static let maxKept = 8
  /// Bytes of the buffer that messages are inflated to: one of 64 KiB, and what an inflater needs beyond it.
  private static let outputSize = 65 << 10

  /// The last one given back is the last.
  @safe @exclusivity(unchecked) private var deflaters: [Deflater] = []
  @safe @exclusivity(unchecked) private var inflaters: [Inflater] = []
  @safe @exclusivity(unchecked) private var wholeInflater: WholeInflater?
  /// Where messages are inflated to, one behind the other.
  @safe @exclusivity(unchecked) var inflated = BytesBuilder()
  /// Where a message is compressed to, to be copied behind its frame header.
  @safe @exclusivity(unchecked) var deflated = BytesBuilder()
  @safe @exclusivity(unchecked) private var last: (settings: DeflateSettings, message: Bytes, compressed: Bytes)?
  @safe @exclusivity(unchecked) private var use = Use.none
  /// Asks for a call of `trim` some seconds later.
  private let scheduleTrim: () -> Void

  private enum Use {
    /// Nothing is held.
    case none
    /// Something was lent since the last `trim`.
    case recent
    /// Nothing was.
    case past
  }

  /// - Parameter scheduleTrim: Asks for a call of `trim` some seconds later.
  package init(scheduleTrim: @escaping () -> Void = {}) {
    self.scheduleTrim = scheduleTrim
  }

  private func noteUse() {
    if case .none = use { scheduleTrim() }
    use = .recent
  }

  /// Gives back what was not used since the call before.
  package func trim() {
    if case .recent = use {
      use = .past
      return scheduleTrim()
    }
    use = .none
    deflaters = []
    inflaters = []
    wholeInflater = nil
    inflated = BytesBuilder()
    deflated = BytesBuilder()
    last = nil
  }

  func deflater(_ settings: DeflateSettings) -> Deflater? {
    noteUse()
    guard let index = deflaters.lastIndex(where: { $0.settings == settings }) else { return Deflater(settings) }
    return deflaters.remove(at: index)
  }

  /// Takes a context back, whatever it was in the midst of.
  func give(_ deflater: Deflater) {
    deflater.reset()
    if deflaters.count == Self.maxKept { deflaters.removeFirst() }
    deflaters.append(deflater)
  }

  func inflater(windowBits: Int) -> Inflater? {
    noteUse()
    guard let index = inflaters.lastIndex(where: { $0.windowBits == windowBits }) else {
      return Inflater(windowBits: windowBits)
    }
    return inflaters.remove(at: index)
  }

  func give(_ inflater: Inflater) {
    inflater.reset()
    if inflaters.count == Self.maxKept { inflaters.removeFirst() }
    inflaters.append(inflater)
  }

  /// Inflates a message that starts anew and lies there whole.
  /// - Returns: all of it, in `inflated`. nil if a context has to do it, or to say what is wrong.
  func inflate(whole message: Bytes) -> Bytes? {
    guard message.count <= WholeInflater.maxInput, let inflater = wholeInflater ?? WholeInflater.make() else {
      return nil
    }
    wholeInflater = inflater
    prepareInflated(room: Swift.min(Self.outputSize, message.count * Self.usualRatio))
    let start = inflated.count
    guard inflater.inflate(message.span, to: &inflated) else { return nil }
    let all = inflated.lend()
    return all[(all.startIndex + start)...]
  }

  /// What text becomes at the most when it is inflated, as a rule.
  private static let usualRatio = 24

  /// Makes sure that `inflated` has room, and that what was lent of it is not written again.
  func prepareInflated(room: Int = 1 << 10) {
    noteUse()
    inflated.resetIfUnshared()
    if inflated.capacity - inflated.count < room { inflated = BytesBuilder(capacity: Self.outputSize) }
  }

  /// Empties `deflated`, leaving alone what was lent of it.
  func prepareDeflated(maxKept: Int) {
    deflated.resetIfUnshared()
    if deflated.count > 0 || deflated.capacity > maxKept { deflated = BytesBuilder() }
  }

  // MARK: messages to many

  /// Longer ones are compressed again rather than kept.
  private static let maxRemembered = 256 << 10

  /// What the same bytes in the same memory were compressed to just before.
  func compressedBefore(_ message: Bytes, _ settings: DeflateSettings) -> Bytes? {
    guard let last, last.settings == settings, last.message.isIdentical(to: message) else { return nil }
    return last.compressed
  }

  func remember(_ message: Bytes, _ settings: DeflateSettings, compressed: Bytes) {
    // A slice of a read buffer is on its way through; what has a buffer of its own may be sent again.
    let mayComeAgain = message.count <= Self.maxRemembered && !message.isWasteful
    last = mayComeAgain ? (settings, message, Bytes(copying: compressed.span)) : nil
  }
}
