import SluiceZlib

/// Compression of messages (RFC 7692).
///
/// ```swift
/// var options = WebSocketServerOptions()
/// options.extensions = [PermessageDeflate()]
/// ```
///
/// What it costs in memory, for each connection that keeps a context (`contextTakeover`), in zlib's words:
/// to send `2^(windowBits + 2) + 2^(memLevel + 9)` bytes and about 6 KiB, so 262 KiB with the defaults; to receive
/// `2^windowBits` and about 7 KiB, so 39 KiB. Without takeover a connection holds a context only while a message is under
/// way; the connections of a loop share them, and they are freed when none was needed for some seconds.
public struct PermessageDeflate: WebSocketExtension {
  /// One direction's use of its window.
  public struct Window: Sendable, Hashable {
    /// Whether what was sent in earlier messages helps to compress the next: better for many small messages that are alike,
    /// and the memory above for as long as the connection lives. Default: false.
    public var contextTakeover: Bool
    /// The window has 2 to this power bytes, 8-15. Default: 15. For what the peer sends it is a request, which a server can make
    /// only if the client offers to comply.
    public var bits: Int

    public init(contextTakeover: Bool = false, bits: Int = 15) {
      self.contextTakeover = contextTakeover
      self.bits = Swift.min(Swift.max(bits, 8), 15)
    }
  }

  /// How zlib looks for matches: its `strategy`.
  public typealias Strategy = DeflateStrategy

  /// What is sent.
  public var outgoing: Window
  /// What is received.
  public var incoming: Window
  /// 1 (fastest) to 9 (smallest). Default: 6.
  public var level: Int {
    didSet { level = Self.limited(level) }
  }
  /// zlib's `memLevel`, 1-9: memory for the search. Default: 8.
  public var memoryLevel: Int {
    didSet { memoryLevel = Self.limited(memoryLevel) }
  }
  public var strategy = Strategy.normal
  /// Messages of fewer bytes are sent as they are. Default: 1024.
  public var threshold = 1024

  public let name = "permessage-deflate"
  public let reservedBits = ReservedBits.rsv1

  public init(
    outgoing: Window = Window(), incoming: Window = Window(), level: Int = 6, memoryLevel: Int = 8
  ) {
    self.outgoing = outgoing
    self.incoming = incoming
    self.level = Self.limited(level)
    self.memoryLevel = Self.limited(memoryLevel)
  }

  private static func limited(_ level: Int) -> Int { Swift.min(Swift.max(level, 1), 9) }

  // MARK: client

  public func offers() -> [ExtensionParameters] {
    // A client that names its window lets the server ask for a smaller one (RFC 7692 §7.1.2.2).
    var offer = DeflateParameters(clientMaxWindowBits: outgoing.bits == 15 ? .unsaid : .bits(outgoing.bits))
    offer.serverNoContextTakeover = !incoming.contextTakeover
    offer.clientNoContextTakeover = !outgoing.contextTakeover
    if incoming.bits < 15 { offer.serverMaxWindowBits = incoming.bits }
    return [offer.written(as: name)]
  }

  public func accept(_ answer: ExtensionParameters) throws -> any ExtensionSession {
    let agreed = try DeflateParameters(answer)
    // §7.1: what was asked for must be granted, and nothing beyond what was offered.
    if !incoming.contextTakeover && !agreed.serverNoContextTakeover {
      throw DeflateParameterError.notGranted("server_no_context_takeover")
    }
    let serverBits = agreed.serverMaxWindowBits ?? 15
    if serverBits > incoming.bits { throw DeflateParameterError.notGranted("server_max_window_bits") }
    let clientBits: Int
    switch agreed.clientMaxWindowBits {
    case .none: clientBits = outgoing.bits
    case .unsaid: throw DeflateParameterError.invalidValue("client_max_window_bits")
    case .bits(let bits): clientBits = Swift.min(bits, outgoing.bits)
    }
    return DeflateSession(
      outgoing: Window(
        contextTakeover: outgoing.contextTakeover && !agreed.clientNoContextTakeover, bits: clientBits),
      incoming: Window(contextTakeover: !agreed.serverNoContextTakeover, bits: serverBits), settings: self)
  }

  // MARK: server

  public func answer(_ offers: [ExtensionParameters]) -> ExtensionAnswer? {
    for offer in offers {
      // §7.1: an offer that is wrong in any way is declined; another may follow.
      guard let offer = try? DeflateParameters(offer) else { continue }
      var answer = DeflateParameters()
      answer.serverNoContextTakeover = offer.serverNoContextTakeover || !outgoing.contextTakeover
      answer.clientNoContextTakeover = offer.clientNoContextTakeover || !incoming.contextTakeover
      let serverBits = Swift.min(offer.serverMaxWindowBits ?? 15, outgoing.bits)
      if offer.serverMaxWindowBits != nil || serverBits < 15 { answer.serverMaxWindowBits = serverBits }
      var clientBits = 15
      if let most = offer.clientMaxWindowBits.map({ $0.limit }) {
        clientBits = Swift.min(most, incoming.bits)
        answer.clientMaxWindowBits = .bits(clientBits)
      }
      let session = DeflateSession(
        outgoing: Window(contextTakeover: !answer.serverNoContextTakeover, bits: serverBits),
        incoming: Window(contextTakeover: !answer.clientNoContextTakeover, bits: clientBits), settings: self)
      return ExtensionAnswer(parameters: answer.written(as: name), session: session)
    }
    return nil
  }
}
