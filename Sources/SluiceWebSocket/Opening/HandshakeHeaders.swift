/// What an application can't set, because the handshake writes it.
package enum HandshakeHeaders {
  package static let reserved: Set<String> = [
    "host", "upgrade", "connection", "content-length", "transfer-encoding", "sec-websocket-key",
    "sec-websocket-accept", "sec-websocket-version", "sec-websocket-protocol", "sec-websocket-extensions",
  ]
}
