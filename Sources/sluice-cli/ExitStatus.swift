import ArgumentParser
import Sluice

/// The exit codes of the tool. They are part of its interface; README has the table.
enum ExitStatus: Int32, CaseIterable {
  case clean = 0
  /// Something of ours that none of the others names.
  case failure = 1
  /// The peer broke the protocol, or we had to tell it so.
  case protocolError = 3
  /// The connection was lost, or closed with a code other than 1000 and 1001.
  case abnormalClose = 4
  /// No connection: the name does not resolve, nobody listens, or time ran out.
  case connect = 5
  /// The server answered the opening handshake with something else.
  case handshake = 6
  /// A file, pipe or child process failed.
  case inputOutput = 7
  /// The command line is wrong (EX_USAGE of sysexits).
  case usage = 64
  /// Ended by SIGINT before everything was flushed: by the second, or before anything was open (128 + 2, as shells have it; 143 by
  /// SIGTERM).
  case interrupted = 130

  /// What an error means to whoever called the tool.
  init(_ error: any Error) {
    switch error {
    case is UsageError, is URLError, is SubprotocolError, is HTTPFieldError: self = .usage
    case is MessageFramingError, is ChildProcessError: self = .inputOutput
    case let error as WebSocketError:
      switch error {
      case .protocolViolation, .extensionFailed: self = .protocolError
      case .closed, .connectionLost, .closeTimeout, .keepaliveTimeout, .idle: self = .abnormalClose
      default: self = .failure
      }
    case is TLSError, is ConnectError: self = .connect
    case is EventSourceError: self = .handshake
    case is WebSocketConnectError: self = .handshake
    case let error as IOError:
      switch error.operation {
      case "connect", "resolve": self = .connect
      default: self = .inputOutput
      }
    default: self = .failure
    }
  }
}
