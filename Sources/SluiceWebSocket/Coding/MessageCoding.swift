import SluiceStreams
import SluiceWebSocketProtocol

/// What stands between a connection's messages and its frames.
enum MessageCoding {
  /// RFC 6455 without extensions.
  case plain
  /// permessage-deflate alone: messages are compressed and inflated in pieces, as they come.
  case deflate(DeflateSession)
  /// Other extensions, which take whole messages and their time.
  case extensions(ExtensionPipeline)
  /// The frames of the versions before there were opcodes.
  case hixie(HixieFraming)

  init(_ opening: WebSocketOpening, _ extensions: NegotiatedExtensions, _ options: WebSocketOptions, on loop: any Loop)
  {
    if !opening.version.hasOpcodes {
      self = .hixie(HixieFraming(opening.version, maxSkippedBytes: options.maxMessageSize))
      return
    }
    for case let deflate as DeflateSession in extensions.sessions {
      deflate.attach(loop.deflateContexts, maxMessageSize: options.maxMessageSize)
    }
    if extensions.sessions.isEmpty {
      self = .plain
    } else if extensions.sessions.count == 1, let deflate = extensions.sessions[0] as? DeflateSession {
      self = .deflate(deflate)
    } else {
      self = .extensions(ExtensionPipeline(extensions.sessions, watermark: options.writeHighWatermark, on: loop))
    }
  }

  /// Whether whole frames of the peer may pass to another WebSocket without being made messages first.
  var relaysFrames: Bool {
    switch self {
    case .plain, .deflate: true
    case .extensions, .hixie: false
    }
  }

  var isPlain: Bool {
    if case .plain = self { true } else { false }
  }

  /// The connection is given up.
  func close() {
    switch self {
    case .plain, .hixie: break
    case .deflate(let session): session.close()
    case .extensions(let pipeline): pipeline.close()
    }
  }
}

extension Loop {
  /// zlib's contexts, that the connections of this loop share.
  fileprivate var deflateContexts: DeflateContexts {
    locals.value {
      let trimming = Trimming(self)
      let contexts = DeflateContexts { trimming.schedule() }
      trimming.contexts = contexts
      return contexts
    }
  }
}

/// Frees the contexts that were not used for a while.
private final class Trimming: @unchecked Sendable {  // used on its loop only
  private static let interval = Duration.seconds(10)
  private unowned let loop: any Loop
  weak var contexts: DeflateContexts?

  init(_ loop: any Loop) { self.loop = loop }

  func schedule() {
    _ = loop.schedule(after: Self.interval) { self.contexts?.trim() }
  }
}
