import Sluice

// A page, its socket and its feed on one port.
func webServer() async throws {
  try await HTTPServer.serve(
    "http://127.0.0.1:8000",
    routes: [
      .webSocket("/echo") { ws in try await ws.pipe(ws) },
      .events("/feed") { events in try await events.send("hello") },
      .webSocket("/rooms/{room}") { ws in try await ws.send("this is \(ws.parameters["room"] ?? "")") },
      .respond("/health") { _ in .text("ok") },
      .respond("/private/*") { _ in throw RequestRejection(status: 403, reason: "members only") },
      .respond("/upload", methods: [.put]) { request in
        try await request.body.pipe(File.create("upload.bin"))
        return .text("thank you", status: 201)
      },
      .files("/*", in: "public"),
    ])
}
