import SluiceStreams
import SluiceZlib

/// Compresses messages, whole or in fragments (RFC 7692 §7.2.1).
struct MessageDeflater: ~Copyable {
  private let window: PermessageDeflate.Window
  private let settings: DeflateSettings
  private let threshold: Int
  /// Held while a fragmented message is under way, and for good where it is taken over.
  private var deflater: Deflater?
  private var sending = Sending.betweenMessages

  private enum Sending {
    case betweenMessages
    case compressed
    case asItIs
  }

  /// Bytes of the buffer that stay with the loop.
  private static let maxKeptOutput = 256 << 10

  init(_ settings: DeflateSettings, window: PermessageDeflate.Window, threshold: Int) {
    self.settings = settings
    self.window = window
    self.threshold = threshold
  }

  /// - Returns: nil if the message is better sent as it is.
  mutating func compress(_ message: Bytes, _ contexts: DeflateContexts) -> Bytes? {
    guard message.count >= threshold else { return nil }
    if window.contextTakeover {
      guard let deflater = deflater ?? contexts.deflater(settings) else { return nil }
      self.deflater = deflater
      Self.compress(message, with: deflater, to: contexts)
      return Self.withoutTail(contexts)
    }
    let settings = settings.fitted(to: message.count)
    if let compressed = contexts.compressedBefore(message, settings) { return compressed }
    guard let deflater = contexts.deflater(settings) else { return nil }
    Self.compress(message, with: deflater, to: contexts)
    contexts.give(deflater)
    let compressed = Self.withoutTail(contexts)
    // The peer's context does not depend on this message, so nothing is lost by not compressing it.
    guard compressed.count < message.count else { return nil }
    contexts.remember(message, settings, compressed: compressed)
    return compressed
  }

  /// Compresses a part of a message, so that the peer can inflate all of it at once.
  /// - Returns: nil if the message is sent as it is.
  mutating func compress(
    fragment: Bytes, isCompressible: Bool, isFinal: Bool, _ contexts: DeflateContexts
  ) -> Bytes? {
    if case .betweenMessages = sending {
      let isWorthIt = isCompressible && (!isFinal || fragment.count >= threshold)
      if isWorthIt && deflater == nil { deflater = contexts.deflater(settings) }
      sending = isWorthIt && deflater != nil ? .compressed : .asItIs
    }
    guard case .compressed = sending, let deflater else {
      if isFinal { sending = .betweenMessages }
      return nil
    }
    Self.compress(fragment, with: deflater, to: contexts)
    guard isFinal else { return contexts.deflated.lend() }
    sending = .betweenMessages
    if !window.contextTakeover { release(to: contexts) }
    return Self.withoutTail(contexts)
  }

  private static func compress(_ bytes: Bytes, with deflater: Deflater, to contexts: DeflateContexts) {
    contexts.prepareDeflated(maxKept: maxKeptOutput)
    deflater.compress(bytes.span, to: &contexts.deflated)
  }

  /// RFC 7692 §7.2.1: 00 00 FF FF at the end is not sent; §7.2.3.6: where there was nothing to flush, one zero byte is.
  private static func withoutTail(_ contexts: DeflateContexts) -> Bytes {
    let all = contexts.deflated.lend()
    return all.count > 4 ? all.dropLast(4) : [0x00]
  }

  /// Gives the context back, whatever it was in the midst of.
  mutating func release(to contexts: DeflateContexts) {
    if let deflater { contexts.give(deflater) }
    deflater = nil
  }
}
