import SluiceHTTP

/// A connection for requests, and who answers them.
package struct RequestRoute: Sendable {
  package let stream: Connect.ByteStream
  /// nil if the stream leads to the origin itself.
  package let forwarding: Forwarding?

  package init(_ stream: Connect.ByteStream, _ forwarding: Forwarding? = nil) {
    self.stream = stream
    self.forwarding = forwarding
  }

  /// What a request is asked for with: the path, or the whole URL where a proxy is to pass it on (RFC 9112 §3.2.2).
  package func target(of url: ConnectionURL) -> String { forwarding == nil ? url.target : url.description }

  /// A proxy that requests are given to, and what it is told.
  package struct Forwarding: Sendable {
    private let credentials: BasicCredentials?
    private let headers: Headers

    init(_ proxy: Proxy) throws(URLError) {
      credentials = if let userInfo = proxy.credentials { try BasicCredentials(userInfo) } else { nil }
      headers = proxy.headers
    }

    package func append(to writer: inout HeadWriter) throws(HTTPFieldError) {
      var reserved = HTTPTunnel.reserved
      if let credentials {
        try writer.append("Proxy-Authorization", credentials.field)
        reserved.insert("proxy-authorization")
      }
      try writer.append(headers, reserved: reserved)
    }
  }
}
