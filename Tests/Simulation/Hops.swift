import Sluice
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import SluiceTesting
import SluiceWebSocket
import SluiceWebSocketProtocol

/// Both ends of a hop, and what carries it.
struct Connection: Sendable {
  let near: ByteEnd
  let far: ByteEnd
  /// The ends of the network's connection, if there is one.
  let wire: (near: SimulatedStream, far: SimulatedStream)?
}

/// An end of a connection, as a stream of bytes.
struct ByteEnd: Sendable {
  let stream: any DuplexStream<Bytes, Bytes>
}

struct Identities: Sendable {
  let client: TLSClientContext
  let server: TLSServerContext

  static func load() async throws -> Identities {
    let certificates = try await Certificates.load()
    return Identities(client: try certificates.client(), server: try certificates.server())
  }
}

extension Plan.Hop {
  func open(on loop: SimulatedLoop, _ identities: Identities) async throws -> Connection {
    switch self {
    case .memory(let mark):
      let (near, far) = MemoryStream<Bytes>.pair(highWatermark: mark)
      return Connection(near: ByteEnd(stream: near), far: ByteEnd(stream: far), wire: nil)
    case .memoryOnLoop(let mark):
      let (near, far) = MemoryStream<Bytes>.pair(highWatermark: mark)
      return Connection(
        near: ByteEnd(stream: near.polled(on: loop)), far: ByteEnd(stream: far.polled(on: loop)), wire: nil)
    case .tcp(let wire):
      let (near, far) = wire.connection(on: loop)
      return Connection(near: ByteEnd(stream: near), far: ByteEnd(stream: far), wire: (near, far))
    case .tls(let wire):
      let (near, far) = wire.connection(on: loop)
      async let accepted = identities.server.accept(over: far)
      let connected = try await identities.client.connect(over: near, to: "www.example.com")
      return Connection(near: ByteEnd(stream: connected), far: ByteEnd(stream: try await accepted), wire: (near, far))
    case .webSocket(let wire, let isCompressed):
      let (near, far) = wire.connection(on: loop)
      var server = WebSocketHandshakeOptions()
      var client = WebSocketRequestOptions()
      if isCompressed {
        server.extensions = [PermessageDeflate()]
        client.extensions = [PermessageDeflate()]
      }
      async let accepted = WebSocket.accept(over: far, options: server)
      let connected = try await WebSocket.connect("ws://test/", over: near, options: client)
      return Connection(near: ByteEnd(connected), far: ByteEnd(try await accepted), wire: (near, far))
    case .lengthPrefixed(let wire):
      let (near, far) = wire.connection(on: loop)
      return Connection(
        near: ByteEnd(stream: JoinedStream(reading: near.lengthPrefixed, writing: near.behind(LengthPrefixEncoder()))),
        far: ByteEnd(stream: JoinedStream(reading: far.lengthPrefixed, writing: far.behind(LengthPrefixEncoder()))),
        wire: (near, far))
    case .chunks(let wire, let size):
      let (near, far) = wire.connection(on: loop)
      return Connection(
        near: ByteEnd(stream: near),
        far: ByteEnd(stream: JoinedStream(reading: far.pipe(through: ChunkTransform(size: size)), writing: far)),
        wire: (near, far))
    }
  }
}

extension Plan.Wire {
  fileprivate func connection(on loop: SimulatedLoop) -> (SimulatedStream, SimulatedStream) {
    var network = SimulatedNetwork(loop: loop)
    network.pieceSize = pieceSize
    network.delay = delay
    network.window = window
    return network.connection()
  }
}

extension ByteEnd {
  /// A WebSocket as a stream of bytes: each message's payload.
  fileprivate init(_ ws: WebSocket) {
    stream = JoinedStream(
      reading: ws.map { $0.bytes }, writing: ws.behind(ElementTransform<Bytes, Message> { $1.append(.binary($0)) }),
      endsAsOne: true)
  }
}
