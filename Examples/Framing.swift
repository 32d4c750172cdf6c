import Sluice

// WebSocket messages over a Unix socket between two programs of one's own, without an opening handshake.
func framingServer() async throws {
  for try await socket in try await UnixSocket.listen("/tmp/framing.sock") {
    Task {
      let messages = try await socket.pipe(through: WebSocket.Framing(.server))
      try await messages.pipe(messages)
    }
  }
}

func framingClient() async throws {
  let socket = try await UnixSocket.connect("/tmp/framing.sock")
  let messages = try await socket.pipe(through: WebSocket.Framing(.client))
  try await messages.send("hello")
  print(try await messages.read()?.text ?? "closed")
  try await messages.close()
}

// The same within one program, in memory.
func framingInMemory() async throws {
  let (near, far) = MemoryStream<Bytes>.pair()
  let client = try await near.polled(on: UVLoop.shared).pipe(through: WebSocket.Framing(.client))
  let server = try await far.polled(on: UVLoop.shared).pipe(through: WebSocket.Framing(.server))
  async let echo: Void = server.pipe(server)
  try await client.send("hello")
  print(try await client.read()?.text ?? "closed")
  try await client.close()
  try await echo
}
