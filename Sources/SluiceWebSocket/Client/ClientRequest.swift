import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// What a client sends, checked before it connects.
package struct ClientRequest: Sendable {
  package let url: ConnectionURL
  package let handshake: ClientHandshake
  package let head: Bytes

  package init(
    _ url: ConnectionURL, protocols: [String], key: HandshakeKey = HandshakeKey(), _ options: WebSocketRequestOptions
  ) throws {
    self.url = url
    handshake = try ClientHandshake(protocols: protocols, extensions: options.extensions, key: key)
    var writer = HeadWriter("GET \(url.target) HTTP/1.1")
    var headers = options.headers
    try writer.append("Host", headers.takeHost() ?? url.authority)
    try writer.append(handshake.fields)
    var reserved = HandshakeHeaders.reserved
    if let userInfo = url.userInfo {
      // RFC 7617: what stands in the URL is sent as Basic credentials.
      try writer.append("Authorization", BasicCredentials(userInfo).field)
      reserved.insert("authorization")
    }
    try writer.append(headers, reserved: reserved)
    head = writer.finish()
  }
}
