import HTTPTypes

/// A request that does not open a WebSocket: what it is answered (RFC 6455 §4.2.2).
package struct HandshakeRejection: Error, Hashable, Sendable {
  package let status: Int
  /// What was wrong, for the peer to read.
  package let reason: String
  /// Further fields of the answer.
  package var fields = HTTPFields()

  package init(status: Int, reason: String, fields: HTTPFields = HTTPFields()) {
    self.status = status
    self.reason = reason
    self.fields = fields
  }
}
