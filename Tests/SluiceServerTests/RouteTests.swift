import HTTPTypes
import Sluice
import SluiceTestSupport
import SystemPackage
import Testing

@testable import SluiceServer

@Suite("Routes", .timeLimit(.minutes(1)))
struct RouteTests {
  private func get(_ path: String, from server: HTTPServer) async throws -> String {
    try await server.exchange([Bytes("GET \(path) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")])
  }

  @Test(
    "a pattern's paths, and what they say",
    arguments: [
      ("/a/b", "/a/b", [:], ""), ("a/b", "/a/b", [:], ""), ("/a/b", "/a/b/", nil, ""), ("/a/b/", "/a/b", nil, ""),
      ("/", "/", [:], ""),
      ("", "/", [:], ""), ("/", "//", nil, ""), ("/*", "/", [:], ""), ("/*", "/a/b", [:], "a/b"),
      ("/*", "//a", [:], "/a"),
      ("/s/*", "/s/", [:], ""), ("/s/*", "/s", nil, ""), ("/s/*", "/s/a", [:], "a"), ("/s/*", "/sa", nil, ""),
      ("/*", "*", nil, ""),
      ("/rooms/{room}", "/rooms/a", ["room": "a"], ""), ("/rooms/{room}", "/rooms/", nil, ""),
      ("/rooms/{room}", "/rooms", nil, ""),
      ("/rooms/{room}", "/rooms/a/", nil, ""), ("/rooms/{room}", "/rooms/a/b", nil, ""),
      ("/{a}/x/{b}", "/1/x/2", ["a": "1", "b": "2"], ""),
      ("/{a}/x/{b}", "/1/y/2", nil, ""), ("/{u}/*", "/ann/x/y", ["u": "ann"], "x/y"), ("/{u}/*", "/ann", nil, ""),
      ("/{a}", "/%C3%A9%20%2F", ["a": "\u{E9} /"], ""), ("/{a}", "/%FF", nil, ""), ("/{a}", "/%00", ["a": "\0"], ""),
      ("/caf\u{E9}", "/caf%C3%A9", [:], ""), ("/caf%c3%a9", "/caf%C3%A9", [:], ""), ("/a b", "/a%20b", [:], ""),
      ("/100%", "/100%25", [:], ""),
      ("/{}", "/%7B%7D", [:], ""), ("/x{a}", "/x%7Ba%7D", [:], ""), ("/x{a}", "/xy", nil, ""), ("/K", "/k", nil, ""),
      ("/\u{212A}", "/K", nil, ""), ("/a/*/b", "/a/*/b", [:], ""), ("/a/*/b", "/a/x/b", nil, ""),
    ] as [(String, String, [String: String]?, String)])
  func patterns(pattern: String, path: String, parameters: [String: String]?, below: String) {
    let match = RoutePattern(pattern).match(path)
    #expect(match?.parameters == parameters)
    #expect(match?.below ?? "" == below)
  }

  @Test("attack 54: a guard, a route behind it and the files see one path, however it is spelled")
  func guards() async throws {
    try await withFiles(["private/x.txt", "x.txt", "a+b;c/x.txt"]) { folder in
      let refuse: @Sendable (ServerRequest) async throws -> ServerResponse = { _ in
        throw RequestRejection(status: 403, reason: "members only")
      }
      let routes: [HTTPRoute] = [
        .respond("/private/*", refuse), .respond("/a+b;c/*", refuse),
        .respond("/echo/*") { .text("[\($0.path)|\($0.query ?? "")]") },
        .files("/*", in: folder),
      ]
      try await withServer(routes: routes) { server in
        let open = try await get("/%78.txt", from: server)
        #expect(open.hasSuffix("file x.txt"))
        for path in [
          "/private/x.txt", "/%70rivate/x.txt", "/privat%65/x.txt", "/./private/x.txt", "/%2e/private/x.txt",
          "/a/../private/x.txt",
          "/a/%2E%2e/private/x.txt", "/../private/x.txt", "/private/./x.txt", "/private/../private/x.txt",
          "http://b/%70rivate/x.txt",
          "/private/%2e%2e/private/%78.txt?y=%70", "/a+b;c/x.txt", "/a%2Bb%3bc/x.txt", "/a%2bb;%63/x.txt",
        ] {
          let answer = try await get(path, from: server)
          #expect(answer.hasPrefix("HTTP/1.1 403 "), "\(path)")
        }
        // Other paths, which no file has.
        for path in [
          "//private/x.txt", "/private%2fx.txt", "/private%2Fx.txt", "/private;a/x.txt", "/private%5Cx.txt",
          "/PRIVATE/x.txt",
          "/private%00/x.txt", "/.%2fprivate/x.txt", "/..%2fprivate/x.txt", "/x.txt/", "/x.txt%00",
          "/pri%E2%84%AAvate/x.txt",
        ] {
          let answer = try await get(path, from: server)
          #expect(answer.hasPrefix("HTTP/1.1 404 "), "\(path)")
        }
        for (path, seen) in [
          ("/echo/%7Euser/%2fx", "[/echo/~user/%2Fx|]"), ("/echo/a/../b?c=%70/../d", "[/echo/b|c=%70/../d]"),
          ("/%65cho//", "[/echo//|]"),
        ] {
          let answer = try await get(path, from: server)
          #expect(answer.hasSuffix(seen), "\(path)")
        }
      }
    }
  }

  @Test(
    "parameters of the path, for responses, WebSockets and event streams, and where WebSocket and page share a path")
  func parameters() async throws {
    let routes: [HTTPRoute] = [
      .webSocket("/rooms/{room}") { ws in
        try await ws.send(
          "\(ws.parameters["room"] ?? "none") of \(ws.remoteAddress.map { "\($0)" } ?? "nobody")")
      },
      .respond("/rooms/{room}") { .text("page of \($0.parameters["room"] ?? "none")") },
      .events("/users/{user}/feed") { events in try await events.send(events.parameters["user"] ?? "none") },
      .respond("/files/{volume}/*", methods: [.put]) { request in
        .text("\(request.parameters) \((try await request.body.collect(limit: 100) as Bytes).string)")
      },
    ]
    try await withServer(routes: routes) { server in
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/rooms/caf%C3%A9%20%2F?x=y")
      #expect(try await ws.read() == "caf\u{E9} / of 127.0.0.1")
      try await ws.close(.normal)
      #expect(try await get("/rooms/%61", from: server).hasSuffix("page of a"))
      #expect(try await get("/rooms/a/b", from: server).hasPrefix("HTTP/1.1 404 "))
      let feed = try await EventSource.connect("http://127.0.0.1:\(server.port)/users/ann/feed")
      #expect(try await feed.read() == ServerSentEvent("ann"))
      feed.cancel(nil)
      let put = "PUT /files/c/a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
      #expect(try await server.exchange([Bytes(put)]).hasSuffix("[\"volume\": \"c\"] hi"))
    }
  }

  @Test("a WebSocket's server of one path serves it in every spelling, and no other")
  func webSocketServer() async throws {
    let server = try await WebSocketServer.listen("ws://127.0.0.1:0/ch%61t/~x")
    let running = Task { try await server.run { ws in try await ws.pipe(ws) } }
    for path in ["/chat/~x", "/%63hat/%7ex?y", "/a/../chat/./~x"] {
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)\(path)")
      try await ws.close(.normal)
    }
    for path in ["/chat/~X", "/chat%2F~x", "//chat/~x", "/chat/~x/"] {
      await #expect(throws: WebSocketConnectError.self) {
        _ = try await WebSocket.connect("ws://127.0.0.1:\(server.port)\(path)")
      }
    }
    running.cancel()
    _ = try? await running.value
  }
}
