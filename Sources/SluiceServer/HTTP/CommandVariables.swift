import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

extension ServerRequest {
  /// What a command that answers this request is told of it and of its connection.
  public var cgiVariables: CGIVariables {
    get async {
      var variables = await CGIVariables(head).adding(transport, from: remoteAddress)
      if remoteAddress == nil { variables.removeRemoteAddress() }
      return variables
    }
  }
}

extension SocketStream {
  /// What a command that serves this connection is told of it: its addresses. None of a Unix socket.
  /// - Parameter origin: Where it comes from, if that is not its peer (`ProxyProtocol`).
  public func cgiVariables(from origin: IPAddress? = nil) async -> CGIVariables {
    await CGIVariables().adding(self, from: origin)
  }
}

extension TLSStream {
  /// What a command that serves this connection is told of it: its addresses, and what TLS has settled.
  /// - Parameter origin: Where it comes from, if that is not its peer (`ProxyProtocol`).
  public func cgiVariables(from origin: IPAddress? = nil) async -> CGIVariables {
    await CGIVariables().adding(self, from: origin)
  }
}

extension CGIVariables {
  fileprivate func adding(
    _ transport: any PolledDuplexStream<Bytes, Bytes>, from remoteAddress: IPAddress?
  ) async -> CGIVariables {
    let loop = transport.loop
    return await withCheckedContinuation { continuation in
      loop.perform {
        var variables = self
        variables.add(transport, from: remoteAddress)
        continuation.resume(returning: variables)
      }
    }
  }
}
