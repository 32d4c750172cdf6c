import Sluice
import SluiceWebSocketProtocol
import Testing

/// Runs a client of ours against a server of bytes on a real socket: the server accepts the handshake and does what it is told.
/// - Parameters:
///   - server: What the server does once the handshake is done.
///   - fields: More fields of the server's response.
///   - client: What the client does.
///   - answers: What the client sent that `server` did not read, to the end of the connection.
func withClient(
  of server: @escaping @Sendable (Attacker) async throws -> Void,
  fields: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
  runs client: (WebSocket) async throws -> Void, answers: ([UInt8]) throws -> Void
) async throws {
  let listener = try await TCP.listen("127.0.0.1", port: 0)
  let serving = Task {
    let attacker = Attacker(socket: try #require(try await listener.read()))
    let request = try await attacker.receiveHead()
    try await attacker.send(acceptance(of: request, fields: fields))
    try await server(attacker)
    return await attacker.receiveAll().bytes
  }
  let ws = try await WebSocket.connect("ws://127.0.0.1:\(listener.port)", options: options)
  try await client(ws)
  ws.abort(CancellationError())
  try answers(try await serving.value)
  listener.cancel()
}

/// Runs a client's handshake against a server that answers with literal bytes.
/// - Returns: the error that it throws.
func errorOfConnecting(
  protocols: [String] = [], options: WebSocketClientOptions = WebSocketClientOptions(),
  answer: @escaping @Sendable (String) -> String
) async throws -> (any Error)? {
  let listener = try await TCP.listen("127.0.0.1", port: 0)
  defer { listener.cancel() }
  let serving = Task {
    let attacker = Attacker(socket: try #require(try await listener.read()))
    let request = try await attacker.receiveHead()
    try await attacker.send(answer(request))
    _ = await attacker.receiveAll()
  }
  defer { serving.cancel() }
  do {
    let ws = try await WebSocket.connect("ws://127.0.0.1:\(listener.port)", protocols: protocols, options: options)
    ws.abort(CancellationError())
    return nil
  } catch {
    return error
  }
}

/// The 101 response that a request's key asks for, with more fields or instead of some.
func acceptance(of request: String, without: String = "", _ more: String...) -> String {
  acceptance(of: request, without: without, fields: more)
}

private func acceptance(of request: String, without: String = "", fields more: [String]) -> String {
  let fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: \(accept(for: request))"]
    .filter { without.isEmpty || !$0.hasPrefix(without) }
  return "HTTP/1.1 101 Switching Protocols\r\n" + (fields + more).map { $0 + "\r\n" }.joined() + "\r\n"
}

private func accept(for request: String) -> String {
  let line = request.split(separator: "\r\n").first { $0.lowercased().hasPrefix("sec-websocket-key: ") }
  let key = line.map { String($0.dropFirst("sec-websocket-key: ".count)) } ?? ""
  return HandshakeKey(key)?.accept ?? ""
}

/// The payload of a masked frame of at most 125 bytes.
func unmasked(_ frame: [UInt8]) -> [UInt8] {
  guard frame.count >= 6 else { return [] }
  let key = frame[2..<6]
  return frame[6...].prefix(Int(frame[1] & 0x7F)).enumerated().map { $1 ^ key[2 + $0 % 4] }
}
