import SluiceIO
import SluiceStreams
import SluiceTLS

extension TLSClientContext {
  /// Does a client's handshake on any byte stream, one of your own too.
  /// - Parameters:
  ///   - name: The host name or address that was connected to, to be asked for and verified (RFC 9525).
  ///   - loop: Where TLS runs, if the stream lives on no loop itself.
  /// - Throws: `TLSError`, or what the stream failed with. The stream is closed then.
  public func connect(
    over stream: some DuplexStream<Bytes, Bytes>, to name: String, on loop: any Loop = UVLoop.shared
  ) async throws -> TLSStream {
    try await connect(over: stream.polled(on: loop), to: name)
  }
}

extension TLSServerContext {
  /// Does a server's handshake on any byte stream, one of your own too.
  /// - Parameter loop: Where TLS runs, if the stream lives on no loop itself.
  /// - Throws: `TLSError`, or what the stream failed with. The stream is closed then.
  public func accept(
    over stream: some DuplexStream<Bytes, Bytes>, on loop: any Loop = UVLoop.shared
  ) async throws -> TLSStream {
    try await accept(over: stream.polled(on: loop))
  }
}
