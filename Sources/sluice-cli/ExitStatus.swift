import ArgumentParser
import Sluice
import SluiceClient
import SluiceHTTP
import SluiceIO
import SluiceTopics
import SluiceWebSocket
import SluiceWebSocketProtocol

/// The exit codes of the tool. They are part of its interface; README has the table.
enum ExitStatus: Int32, CaseIterable {
  case clean = 0
  /// Something of ours that none of the others names.
  case failure = 1
  /// The peer broke the protocol, or a limit; or said that we did.
  case protocolError = 3
  /// The connection was lost, or closed with a code other than 1000 and 1001.
  case abnormalClose = 4
  /// No connection: the name does not resolve, nobody listens, time ran out, or the certificate is not to be trusted.
  case connect = 5
  /// The server answered the opening handshake with something else.
  case handshake = 6
  /// A file, pipe or child process failed, or a port can't be listened on.
  case inputOutput = 7
  /// The command line is wrong (EX_USAGE of sysexits), or names certificates and keys that can't be used.
  case usage = 64
  /// Ended by SIGINT before everything was flushed: by the second, or before anything was open (128 + 2, as shells have it; 143 by
  /// SIGTERM).
  case interrupted = 130

  /// What an error means to the tool's caller.
  init(_ error: any Error) {
    switch error {
    case is UsageError, is URLError, is SubprotocolError, HTTPFieldError.reservedName, HTTPFieldError.invalidHost:
      self = .usage
    // The command line's fields were checked: this is one that the peer had us send.
    case is HTTPFieldError: self = .protocolError
    case is MessageFramingError, is ChildProcessError, is RecordingError, is JournalError, is LineFormError,
      is HTTPBodyLengthError:
      self = .inputOutput
    case is HTTPRefusal: self = .handshake
    case is ChunkedBodyError: self = .protocolError
    case is ConnectionEnded, is ReplayedFailure, is MissingAnswer: self = .abnormalClose
    case let error as WebSocketError: self.init(error)
    case let error as WebSocketConnectError: self.init(error)
    case let error as EventSourceError: self.init(error)
    case let error as StreamError: self.init(error)
    case let error as TopicOpenError: self.init(opening: error)
    case is NoSuchTopic: self = .inputOutput
    case let error as TopicError: self.init(error)
    case let error as IOError: self.init(error)
    case TLSError.invalidOption, ConnectError.invalidProxy, ConnectError.invalidOrigin: self = .usage
    case TLSError.truncated: self = .abnormalClose
    case is TLSError, is ConnectError: self = .connect
    default: self = .failure
    }
  }

  private init(_ error: WebSocketError) {
    switch error {
    case .protocolViolation, .extensionFailed: self = .protocolError
    case .closed, .connectionLost, .closeTimeout, .keepaliveTimeout, .idle, .stalled, .noPong: self = .abnormalClose
    case .invalidText: self = .inputOutput
    default: self = .failure
    }
  }

  private init(_ error: WebSocketConnectError) {
    switch error {
    case .handshake, .redirect: self = .handshake
    case .malformedResponse: self = .protocolError
    case .endedEarly, .timeout: self = .connect
    }
  }

  private init(_ error: EventSourceError) {
    switch error {
    case .refused, .wrongContentType, .redirect: self = .handshake
    case .malformedResponse, .unsupportedBody: self = .protocolError
    case .endedEarly, .timeout: self = .connect
    case .silence, .stalled, .truncated: self = .abnormalClose
    case .outOfMemory: self = .failure
    }
  }

  private init(_ error: StreamError) {
    switch error {
    case .limitExceeded, .truncated: self = .protocolError
    case .halfCloseTimeout, .tooSlow: self = .abnormalClose
    case .concurrentRead, .concurrentWrite, .closed, .aborted: self = .failure
    }
  }

  private init(opening error: TopicOpenError) {
    switch error.error {
    case .refused: self = error.isFile ? .inputOutput : .handshake
    case .untrusted: self = .connect
    case .unavailable: self = error.isFile ? .inputOutput : .connect
    default: self.init(error.error)
    }
  }

  private init(_ error: TopicError) {
    switch error {
    case .invalidName: self = .usage
    case .positionLost, .appendFailed, .unavailable, .tooSlow, .untrusted: self = .abnormalClose
    case .messageTooLarge: self = .protocolError
    case .refused: self = .inputOutput
    case .closed: self = .failure
    }
  }

  private init(_ error: IOError) {
    switch (error.operation, error.code) {
    case ("connect", _), ("resolve", _), (_, "ECONNREFUSED"): self = .connect
    case ("use", _): self = .usage
    case ("read", let code), ("write", let code), ("shutdown", let code):
      self = Self.lostConnection.contains(code) ? .abnormalClose : .inputOutput
    default: self = .inputOutput
    }
  }

  /// What only a connection can fail with, and no file.
  private static let lostConnection: Set = [
    "ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN",
    "ENETRESET",
  ]
}
