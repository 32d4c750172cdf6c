import Sluice

// The protocol alone, over a transport of one's own: here a bare TCP stream.
func driver() async throws {
  for try await socket in try await TCP.listen("127.0.0.1", port: 8000) {
    let driver = WebSocketDriver.server()
    while let bytes = try await socket.read() {
      driver.receive(bytes)
      while let event = driver.nextEvent() {
        if case .message(let message) = event { try driver.send(message) }
      }
      try await socket.write(driver.takeOutput())
      if driver.isOver { break }
    }
    try await socket.close()
  }
}
