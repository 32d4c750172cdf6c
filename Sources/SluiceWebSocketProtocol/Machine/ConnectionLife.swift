/// Where a connection is in its life: which of its directions have ended, and how.
package enum ConnectionLife {
  case open
  /// Our Close is sent, or on its way behind what is sent before it; the peer's has not come.
  indirect case closeSent(CloseCode, String)
  /// Nothing can be sent any more; what the peer has sent before still counts.
  indirect case sendingFailed(any Error)
  /// Nothing that the peer sends counts any more, and nothing of ours follows.
  indirect case ended(ReadingEnd, WritingEnd)

  /// How what the peer sends has ended.
  package struct ReadingEnd {
    /// The peer's Close, if one came.
    package let close: CloseStatus?
    /// Whether that was the answer to ours.
    package let isAnswer: Bool
    /// What reading fails with; nil where the peer has closed well.
    package fileprivate(set) var error: (any Error)?
  }

  package enum WritingEnd {
    case closed(CloseCode, String)
    case failed(any Error)
  }

  // MARK: what it is

  /// Whether messages may be sent.
  package var isOpen: Bool {
    if case .open = self { true } else { false }
  }

  /// Whether what the peer sends counts.
  package var isReading: Bool {
    if case .ended = self { false } else { true }
  }

  package var readingEnd: ReadingEnd? {
    if case .ended(let reading, _) = self { reading } else { nil }
  }

  package var writingEnd: WritingEnd? {
    switch self {
    case .open: nil
    case .closeSent(let code, let reason): .closed(code, reason)
    case .sendingFailed(let error): .failed(error)
    case .ended(_, let writing): writing
    }
  }

  /// The peer's Close.
  package var received: CloseStatus? { readingEnd?.close }

  /// The peer's Close, if it came before ours.
  package var receivedFirst: CloseStatus? {
    guard let readingEnd, !readingEnd.isAnswer else { return nil }
    return readingEnd.close
  }

  private var isCloseSent: Bool {
    if case .closeSent = self { true } else { false }
  }

  // MARK: what happens

  /// We close.
  /// - Returns: whether a Close is to be written: none was before.
  package mutating func close(_ code: CloseCode, _ reason: String) -> Bool {
    guard isOpen else { return false }
    self = .closeSent(code, reason)
    return true
  }

  /// The peer's Close came.
  /// - Returns: whether it is to be answered, with its own code (RFC 6455 §5.5.1).
  package mutating func receiveClose(_ code: CloseCode, _ reason: String) -> Bool {
    let wasOpen = isOpen
    end(Self.end(by: CloseStatus(code, reason), isAnswer: isCloseSent), .closed(code, ""))
    return wasOpen
  }

  /// We give up reading, and close.
  /// - Returns: whether a Close is to be written.
  package mutating func fail(_ error: any Error, _ code: CloseCode) -> Bool {
    let wasOpen = isOpen
    end(ReadingEnd(close: nil, isAnswer: false, error: error), .closed(code, ""))
    return wasOpen
  }

  /// The connection is lost, or given up.
  /// - Parameter close: The peer's Close, if it came and had no effect yet.
  package mutating func cut(_ error: any Error, after close: CloseStatus? = nil) {
    let reading =
      close.map { Self.end(by: $0, isAnswer: isCloseSent) } ?? ReadingEnd(close: nil, isAnswer: false, error: error)
    end(reading, .failed(error))
  }

  /// The transport takes nothing more.
  /// - Returns: whether that is news: the connection was open.
  package mutating func failSending(_ error: any Error) -> Bool {
    guard isOpen else { return false }
    self = .sendingFailed(error)
    return true
  }

  /// What came before the peer's Close turns out to be wrong.
  package mutating func failReading(_ error: any Error) {
    guard case .ended(var reading, let writing) = self, reading.error == nil else { return }
    reading.error = error
    self = .ended(reading, writing)
  }

  /// What was to be sent before our Close can't be.
  package mutating func failWriting(_ error: any Error) {
    if let readingEnd { self = .ended(readingEnd, .failed(error)) }
  }

  /// The answer to our own Close has its code: it is no news, whatever that says.
  private static func end(by close: CloseStatus, isAnswer: Bool) -> ReadingEnd {
    let isClean = isAnswer || close.code.isCleanEnd
    return ReadingEnd(
      close: close, isAnswer: isAnswer, error: isClean ? nil : WebSocketError.closed(close.code, reason: close.reason))
  }

  private mutating func end(_ reading: ReadingEnd, _ writing: WritingEnd) {
    if isReading { self = .ended(reading, writingEnd ?? writing) }
  }
}

/// A Close of the peer.
package final class CloseStatus: Sendable {
  /// 1005 if it had none.
  package let code: CloseCode
  package let reason: String

  package init(_ code: CloseCode, _ reason: String) {
    self.code = code
    self.reason = reason
  }
}
