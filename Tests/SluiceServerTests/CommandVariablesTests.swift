import Sluice
import SluiceHTTP
import SluiceTestSupport
import Testing

@Suite("What a command is told of its connection", .timeLimit(.minutes(1)))
struct CommandVariablesTests {
  /// What `env` prints for these variables, but for our own environment.
  private func told(_ variables: CGIVariables) async throws -> Set<Substring> {
    let command = try await ChildProcess.spawn(["/usr/bin/env"], environment: variables.added(to: [:]))
    return Set(try await command.collect(limit: 1 << 20).string.split(separator: "\n"))
  }

  @Test("of a request and a WebSocket: addresses, request and fields")
  func http() async throws {
    let routes: [HTTPRoute] = [
      .respond("/env") { request in .text(try await told(await request.cgiVariables).sorted().joined(separator: "\n"))
      },
      .webSocket("/ws/*") { ws in
        try await ws.send("\(try await told(await ws.cgiVariables).sorted().joined(separator: "\n"))")
      },
    ]
    try await withServer(routes: routes) { server in
      let answer = try await server.exchange([
        "GET /env?x=1 HTTP/1.1\r\nHost: example.com:1\r\nConnection: close\r\nX-A: b\r\nProxy: evil\r\nProxy_: evil\r\n\r\n"
      ])
      for line in [
        "REMOTE_ADDR=127.0.0.1", "SERVER_ADDR=127.0.0.1", "SERVER_PORT=\(server.port)", "SERVER_NAME=example.com",
        "REQUEST_METHOD=GET", "REQUEST_URI=/env?x=1", "PATH_INFO=/env", "QUERY_STRING=x=1", "HTTP_X_A=b",
      ] { #expect(answer.contains("\(line)\n") || answer.hasSuffix(line), "\(line)") }
      #expect(answer.contains("REMOTE_PORT=") && !answer.contains("evil") && !answer.contains("HTTPS="))
      var options = WebSocketClientOptions()
      options.headers = ["X-A": "b", "Authorization": "Basic secret"]
      let ws = try await WebSocket.connect("ws://127.0.0.1:\(server.port)/ws/r%20s", options: options)
      let text = try await ws.read()?.text ?? ""
      for line in [
        "REMOTE_ADDR=127.0.0.1", "SERVER_PORT=\(server.port)", "PATH_INFO=/ws/r s", "QUERY_STRING=", "HTTP_X_A=b",
        "HTTP_UPGRADE=websocket",
      ] { #expect(text.contains("\(line)\n") || text.hasSuffix(line), "\(line)") }
      #expect(text.contains("REMOTE_PORT=") && !text.contains("secret"))
      try await ws.close()
    }
  }

  @Test(
    "of TLS: version, cipher, and whom the certificate names, if it was verified",
    arguments: [
      ("client", true, "CN=client"), ("sly-client", true, "CN=alice\\,CN=root,O=Example"), ("untrusted", false, nil),
      (nil, true, nil),
    ] as [(String?, Bool, String?)])
  func tls(identity: String?, verifies: Bool, subject: String?) async throws {
    let certificates = try await Certificates.load()
    let context = try certificates.server {
      $0.clientCertificates = .optional(verifies ? .file(certificates.file("root.pem")) : .insecureNoVerification)
    }
    let client = try certificates.client { options in
      if let identity { options.identity = certificates.identity(identity) }
    }
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    async let connecting = client.connect(over: TCP.connect("127.0.0.1", port: listener.port), to: "www.example.com")
    guard let socket = try await listener.read() else { return }
    let stream = try await context.accept(over: socket)
    let far = try await connecting
    let variables = await stream.cgiVariables(from: IPAddress("2001:db8::1"))
    #expect(variables["HTTPS"] == "on" && variables["SSL_PROTOCOL"] == "TLSv1.3" && variables["SSL_CIPHER"] != nil)
    #expect(variables["SSL_TLS_SNI"] == "www.example.com")
    #expect(variables["SSL_CLIENT_S_DN"] == subject)
    #expect(variables["SSL_CLIENT_VERIFY"] == (subject == nil ? "NONE" : "SUCCESS"))
    #expect(variables["REMOTE_ADDR"] == "2001:db8::1" && variables["REMOTE_PORT"] == nil)
    #expect(variables["SERVER_PORT"] == "\(listener.port)" && variables["SERVER_NAME"] == "127.0.0.1")
    far.abort(StreamError.aborted)
    stream.abort(StreamError.aborted)
    listener.cancel()
  }
}
