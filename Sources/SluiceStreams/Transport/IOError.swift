/// A failure that the operating system reported, or a name or address that can't be used.
public struct IOError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was being done: "connect", "read", "open" …
  public let operation: String
  /// To what: an address, a path, a command.
  public let subject: String
  /// The system's name of the error: "ECONNREFUSED".
  public let code: String
  /// The system's words: "connection refused".
  public let reason: String

  public init(operation: String, subject: String, code: String, reason: String) {
    self.operation = operation
    self.subject = subject
    self.code = code
    self.reason = reason
  }

  public var description: String { "\(operation) \(subject): \(reason) (\(code))" }
}
