import SluiceStreams
import SluiceZlib

/// zlib's contexts that the connections of one loop take turns with: they are lent for a message, and kept for the next.
///
/// Also where what they write goes, so that a connection holds no memory for it, and what was compressed last, so that a
/// message that is sent to many is compressed once.
package final class DeflateContexts: @unchecked Sendable {  // used on its loop only
  /// Contexts of one kind that are kept while nobody uses them.
  private static let maxKept = 4
  private static let outputSize = 64 << 10

  private var deflaters: [DeflateSettings: [Deflater]] = [:]
  private var inflaters: [Int: [Inflater]] = [:]
  /// Where messages are inflated to, one behind the other.
  var inflated = BytesBuilder()
  /// Where a message is compressed to, to be copied behind its frame header.
  var deflated = BytesBuilder()
  private var last: (settings: DeflateSettings, message: Bytes, compressed: Bytes)?
  private var use = Use.none
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
    deflaters = [:]
    inflaters = [:]
    inflated = BytesBuilder()
    deflated = BytesBuilder()
    last = nil
  }

  func deflater(_ settings: DeflateSettings) -> Deflater? {
    noteUse()
    return deflaters[settings]?.popLast() ?? Deflater(settings)
  }

  /// Takes a context back, whatever it was in the midst of.
  func give(_ deflater: Deflater) {
    guard deflaters[deflater.settings, default: []].count < Self.maxKept else { return }
    deflater.reset()
    deflaters[deflater.settings, default: []].append(deflater)
  }

  func inflater(windowBits: Int) -> Inflater? {
    noteUse()
    return inflaters[windowBits]?.popLast() ?? Inflater(windowBits: windowBits)
  }

  func give(_ inflater: Inflater) {
    guard inflaters[inflater.windowBits, default: []].count < Self.maxKept else { return }
    inflater.reset()
    inflaters[inflater.windowBits, default: []].append(inflater)
  }

  /// Makes sure that `inflated` has room, and that what was lent of it is not written again.
  func prepareInflated() {
    noteUse()
    inflated.resetIfUnshared()
    if inflated.capacity - inflated.count < 1 << 10 { inflated = BytesBuilder(capacity: Self.outputSize) }
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
