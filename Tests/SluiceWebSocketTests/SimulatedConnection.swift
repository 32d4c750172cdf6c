import Sluice
import SluiceTestSupport
import Testing

/// A client and a server over a simulated network.
struct SimulatedConnection: Sendable {
  let client: WebSocket
  let server: WebSocket

  /// Runs a test on virtual time with both ends open.
  static func run(
    pieceSize: Int = .max, delay: Duration = .zero,
    server serverOptions: WebSocketHandshakeOptions = WebSocketHandshakeOptions(),
    client clientOptions: WebSocketRequestOptions = WebSocketRequestOptions(), protocols: [String] = [],
    _ body: @escaping @Sendable (SimulatedConnection, SimulatedLoop) async throws -> Void
  ) async throws {
    try await SimulatedWire.run(pieceSize: pieceSize, delay: delay) { near, far, loop in
      async let accepted = WebSocket.accept(over: far, options: serverOptions)
      let client = try await WebSocket.connect(
        "ws://test/chat?room=1", over: near, protocols: protocols, options: clientOptions)
      try await body(SimulatedConnection(client: client, server: accepted), loop)
    }
  }
}

/// The same with bytes at one end or both.
enum SimulatedWire {
  static func run(
    pieceSize: Int = .max, delay: Duration = .zero,
    _ body: @escaping @Sendable (SimulatedStream, SimulatedStream, SimulatedLoop) async throws -> Void
  ) async throws {
    let loop = SimulatedLoop()
    var network = SimulatedNetwork(loop: loop)
    network.pieceSize = pieceSize
    network.delay = delay
    let final = network
    try await loop.simulate {
      let (near, far) = final.connection()
      try await body(near, far, loop)
    }
  }

  static let request: Bytes = """
    GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
    """

  static func request(extensions: String) -> Bytes {
    Bytes(request.string.dropLast() + "Sec-WebSocket-Extensions: \(extensions)\r\n\r\n")
  }

  static func readHead(_ near: SimulatedStream) async throws -> String {
    var head = ""
    while !head.hasSuffix("\r\n\r\n"), let chunk = try await near.read() { head += chunk.string }
    return head
  }

  /// Opens a server's WebSocket at the far end, whose peer then writes and reads bytes.
  static func open(
    _ near: SimulatedStream, _ far: SimulatedStream, options: WebSocketHandshakeOptions = WebSocketHandshakeOptions()
  ) async throws -> WebSocket {
    async let accepted = WebSocket.accept(over: far, options: options)
    try await near.write(request)
    _ = try await readHead(near)
    return try await accepted
  }
}

/// A masked frame as a client sends it, with the key 1 2 3 4.
func frame(_ firstByte: UInt8, _ payload: Bytes) -> Bytes {
  var builder = BytesBuilder()
  builder.append(firstByte)
  switch payload.count {
  case ..<126: builder.append(0x80 | UInt8(payload.count))
  case ..<65536:
    builder.append(0x80 | 126)
    builder.append(bigEndian: UInt16(payload.count))
  default:
    builder.append(0x80 | 127)
    builder.append(bigEndian: UInt64(payload.count))
  }
  for byte in [1, 2, 3, 4] as [UInt8] { builder.append(byte) }
  for (index, byte) in payload.enumerated() { builder.append(byte ^ UInt8(index % 4 + 1)) }
  return builder.take()
}
