import SluiceStreams
import SluiceWebSocketProtocol

/// What stands between a connection's messages and its frames, as its handshake has agreed.
enum MessageCoding {
  /// - Returns: what the machine does itself, and what is done before it, where there are other extensions than compression.
  static func make(
    _ version: WebSocketVersion, _ extensions: NegotiatedExtensions, _ options: WebSocketOptions, on loop: any Loop
  ) -> (WebSocketMachine.Coding, ExtensionPipeline?) {
    if !version.hasOpcodes { return (.hixie(HixieFraming(version, maxSkippedBytes: options.maxMessageSize)), nil) }
    for case let deflate as DeflateSession in extensions.sessions {
      deflate.attach(loop.deflateContexts, maxMessageSize: options.maxMessageSize)
    }
    if extensions.sessions.isEmpty { return (.plain, nil) }
    if extensions.sessions.count == 1, let deflate = extensions.sessions[0] as? DeflateSession {
      return (.deflate(deflate), nil)
    }
    return (.plain, ExtensionPipeline(extensions.sessions, watermark: options.writeHighWatermark, on: loop))
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
