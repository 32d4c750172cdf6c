import SluiceHTTP
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

/// A whole connection as the peer of a driver writes it, from the first byte of its handshake on: the events don't depend on how it is cut, and
/// what the driver sends is right and no more than what came deserves.
enum DriverTarget: FuzzTarget {
  static let name = "driver"
  private static let maxMessageSize = 10_000
  private static let key = "dGhlIHNhbXBsZSBub25jZQ=="

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = Settings(rawValue: reader.byte())
    let seed = reader.byte()
    let stream = settings.contains(.shaken) ? hands(settings).followed(by: reader.rest) : reader.rest
    let whole = Conversation(stream, in: [stream], settings)
    let cut = Conversation(stream, in: pieces(stream, seed), settings)
    // Of a message that is not what zlib writes, what is found first depends on the pieces; and a distance beyond a smaller window is found only where
    // the window's copy is looked at.
    if whole.hasNarrowWindow { return }
    promise(cut.events == whole.events, "cut \(cut.events), whole \(whole.events)")
    // What the application sends comes between the answers, at a time that depends on the pieces; a client's masks are random.
    if settings.isDisjoint(with: [.client, .echoes, .closes]) {
      // Which of two faults in a compressed message is found first, and told by the Close, depends on the pieces too.
      let mayCloseOtherwise = settings.contains(.compresses) && whole.hasFailed
      let (ours, theirs) = mayCloseOtherwise ? (cut.beforeClose, whole.beforeClose) : (cut.output, whole.output)
      promise(ours == theirs, "cut \(ours.count) bytes of output, whole \(theirs.count)")
    }
  }

  private struct Settings: OptionSet {
    let rawValue: UInt8
    static let client = Settings(rawValue: 1)
    /// A right handshake stands before the input.
    static let shaken = Settings(rawValue: 2)
    static let compresses = Settings(rawValue: 4)
    /// A window that is kept from message to message.
    static let takesOver = Settings(rawValue: 8)
    /// The application sends each message back.
    static let echoes = Settings(rawValue: 16)
    /// The application closes at the first message.
    static let closes = Settings(rawValue: 32)
  }

  /// In pieces of random sizes, down to single bytes.
  private static func pieces(_ stream: Bytes, _ seed: UInt8) -> [Bytes] {
    var generator = SplitMix(state: UInt64(seed))
    var pieces: [Bytes] = []
    var rest = stream
    while !rest.isEmpty {
      let size = seed == 255 ? 1 : 1 + generator.below(1 << (1 + generator.below(8)))
      pieces.append(rest.prefix(size))
      rest = rest.dropFirst(size)
    }
    return pieces
  }

  // MARK: one conversation

  private enum Event: Equatable {
    case open
    case message(MessageKind, Bytes)
    case ping(Bytes)
    case pong(Bytes)
    case close(Int, String)
    case failed(String)
  }

  private struct Conversation {
    var events: [Event] = []
    var output = Bytes()
    /// Of the output, what stands before our Close.
    var beforeClose = Bytes()
    var hasNarrowWindow = false

    init(_ stream: Bytes, in pieces: [Bytes], _ settings: Settings) {
      let driver = DriverTarget.driver(settings)
      var sent = BytesBuilder()
      // A client's request.
      sent.append(driver.takeOutput())
      var answered = 0
      for piece in pieces {
        driver.receive(piece)
        while let event = driver.nextEvent() { answered += take(event, driver, settings) }
        sent.append(driver.takeOutput())
      }
      let wasOver = driver.isOver
      driver.receiveEnd()
      while let event = driver.nextEvent() { take(event, driver, settings) }
      promise(driver.isOver, "it is not over behind the end")
      promise(!wasOver || !events.isEmpty, "it is over and nothing has happened")
      promise(driver.takeOutput().isEmpty, "something is sent behind the end")
      output = sent.take()
      hasNarrowWindow = output.string.contains("max_window_bits=") || stream.string.contains("max_window_bits=")
      check(stream, answered, settings)
    }

    /// - Returns: the most bytes that the application's answer may have.
    @discardableResult
    private mutating func take(_ event: WebSocketDriver.Event, _ driver: WebSocketDriver, _ settings: Settings) -> Int {
      switch event {
      case .open: events.append(.open)
      case .message(let message):
        promise(message.bytes.count <= maxMessageSize, "a message of \(message.bytes.count) bytes")
        events.append(.message(message.kind, message.bytes))
        if settings.contains(.closes) { try? driver.close(.normal, "bye") }
        guard settings.contains(.echoes) else { return 0 }
        try? driver.send(message)
        return message.bytes.count + 14
      case .ping(let payload): events.append(.ping(payload))
      case .pong(let payload): events.append(.pong(payload))
      case .close(let code, let reason): events.append(.close(Int(code.rawValue), reason))
      // Which of two faults in a compressed message is found first depends on the pieces.
      case .failed(let error): events.append(.failed(settings.contains(.compresses) ? "" : "\(error)"))
      }
      return 0
    }

    var hasFailed: Bool { events.contains { if case .failed = $0 { true } else { false } } }

    /// What is promised of any output, whatever it answers.
    private mutating func check(_ stream: Bytes, _ answered: Int, _ settings: Settings) {
      // A ping of two bytes is answered with six; a head of any length with one that is short, but for what it repeats.
      promise(
        output.count <= 3 * stream.count + answered + 1000,
        "\(output.count) bytes for \(stream.count), \(answered) of them the application's")
      promise(events.filter { if case .failed = $0 { true } else { false } }.count <= 1, "more than one failure")
      if let end = events.firstIndex(where: { if case .failed = $0 { true } else { false } }) {
        promise(end == events.count - 1, "something behind the failure")
      }
      guard let open = events.firstIndex(of: .open) else { return }
      promise(open == 0, "something before it is open")
      if isHixie { return }
      // Behind the handshake are frames that the other role takes, and nothing behind a Close.
      var reader = HeadReader()
      guard let (_, frames) = try? reader.consume(output) else { return promise(false, "open without a head") }
      var decoder = FrameDecoder(
        role: settings.contains(.client) ? .server : .client,
        allowedReservedBits: settings.contains(.compresses) ? .rsv1 : [])
      beforeClose = output.prefix(output.count - frames.count)
      do {
        for index in frames.indices {
          promise(!decoder.isClosed, "it sends something behind its Close")
          var byte = frames[index...index]
          while try decoder.next(in: &byte) != nil {
            if !decoder.isClosed { beforeClose = output.prefix(output.count - (frames.endIndex - index - 1)) }
          }
        }
      } catch { promise(false, "what it sends is wrong: \(error)") }
      promise(!decoder.isInsideMessage, "what it sends is cut off")
    }

    private var isHixie: Bool { output.string.hasPrefix("HTTP/1.1 101 Web") }
  }

  private static func driver(_ settings: Settings) -> WebSocketDriver {
    var limits = WebSocketOptions()
    limits.maxMessageSize = maxMessageSize
    limits.maxFragments = 16
    let window = PermessageDeflate.Window(contextTakeover: settings.contains(.takesOver))
    var deflate = PermessageDeflate(outgoing: window, incoming: window)
    deflate.threshold = 8
    let extensions: [any WebSocketExtension] = settings.contains(.compresses) ? [deflate] : []
    if !settings.contains(.client) {
      var options = WebSocketHandshakeOptions()
      options.connection = limits
      options.protocols = ["chat", "v2"]
      options.extensions = extensions
      return .server(options: options, headLimits: HeadLimits(maxHeadBytes: 2000, maxFieldCount: 20))
    }
    var options = WebSocketRequestOptions()
    options.connection = limits
    options.extensions = extensions
    options.headLimits = HeadLimits(maxHeadBytes: 2000, maxFieldCount: 20)
    guard
      let key = HandshakeKey(key),
      let driver = try? WebSocketDriver.client("ws://example.com/", protocols: ["chat"], key: key, options: options)
    else { fatalError("a right request is refused") }
    return driver
  }

  // MARK: inputs

  /// The peer's half of a handshake that succeeds.
  private static func hands(_ settings: Settings) -> Bytes {
    let takeover = settings.contains(.takesOver) ? "" : "; server_no_context_takeover; client_no_context_takeover"
    let deflate =
      settings.contains(.compresses) ? "Sec-WebSocket-Extensions: permessage-deflate\(takeover)\r\n" : ""
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n\(deflate)"
    return settings.contains(.client)
      ? Bytes(
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\(upgrade)\r\n")
      : Bytes(
        "GET / HTTP/1.1\r\nHost: example.com\r\nSec-WebSocket-Key: \(key)\r\nSec-WebSocket-Version: 13\r\n\(upgrade)\r\n"
      )
  }

  /// A handshake and frames that are mostly right, some of them compressed.
  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var settings = Settings(rawValue: generator.byte())
    settings.insert(.shaken)
    var frames = BytesBuilder(capacity: 256)
    let role: UInt8 = settings.contains(.client) ? 1 : 0
    for _ in 0..<1 + generator.below(3) {
      // Of the target of frames, without its two settings.
      var input = FramesTarget.randomInput(&generator)
      while input[input.startIndex] & 1 != role { input = FramesTarget.randomInput(&generator) }
      frames.append(input.dropFirst(2))
    }
    var input = BytesBuilder(capacity: 512)
    if generator.below(4) == 0 {
      // Its own handshake, with something changed in it.
      var hands = Array(hands(settings))
      hands[generator.below(hands.count)] = generator.byte()
      settings.remove(.shaken)
      input.append(settings.rawValue)
      input.append(generator.byte())
      input.append(contentsOf: hands)
    } else {
      input.append(settings.rawValue)
      input.append(generator.byte())
    }
    input.append(frames.take())
    return input.take()
  }
}
