import SluiceStreams
import SluiceWebSocket

extension WebSocket {
  /// Both ends of a connection in memory, whose opening handshake is done: what tests a handler, or a client, without a socket.
  ///
  /// ```swift
  /// try await SimulatedLoop.run { loop in
  ///   let (client, server) = try await WebSocket.pair("ws://test/rooms?room=blue", protocols: ["chat"])
  ///   async let serving: Void = chat(server)          // the handler under test
  ///   try await client.send("hello")
  ///   #expect(try await client.read()?.text == "hello")
  ///   try await client.close()
  ///   try await serving
  /// }
  /// ```
  /// - Parameters:
  ///   - url: What the client asks for.
  ///   - protocols: Subprotocols that the client offers; the server speaks them too, unless its options name others.
  ///   - loop: Where both live. Default: the `SimulatedLoop` that the calling task runs on.
  /// - Throws: `NotSimulated` without a loop; what the handshake fails with.
  public static func pair(
    _ url: String = "ws://test/", protocols: [String] = [],
    client: WebSocketRequestOptions = WebSocketRequestOptions(),
    server: WebSocketHandshakeOptions = WebSocketHandshakeOptions(), on loop: (any Loop)? = nil
  ) async throws -> (client: WebSocket, server: WebSocket) {
    guard let loop = loop ?? SimulatedLoop.current else { throw NotSimulated() }
    let (near, far) = try await transports(on: loop)
    async let accepted = accept(
      over: far, protocols: server.protocols.isEmpty ? protocols : server.protocols, options: server)
    let connected = try await connect(url, over: near, protocols: protocols, options: client)
    return (connected, try await accepted)
  }

  private static func transports(on loop: any Loop) async throws -> (Transport, Transport) {
    if let loop = loop as? SimulatedLoop {
      let (near, far) = try await loop.run { SimulatedNetwork(loop: loop).connection() }
      return (near, far)
    }
    let (near, far) = MemoryStream<Bytes>.pair()
    return (near.polled(on: loop), far.polled(on: loop))
  }

  /// No loop was named, and the calling task runs on no `SimulatedLoop`.
  public struct NotSimulated: Error, CustomStringConvertible {
    public init() {}
    public var description: String { "WebSocket.pair() outside SimulatedLoop.run: name the loop (on: …)" }
  }
}
