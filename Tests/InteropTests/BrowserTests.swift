import Foundation
import Sluice
import SluiceTestSupport
import Testing

@Suite("A browser, Chromium", .timeLimit(.minutes(5)))
struct BrowserTests {
  /// `sluice demo` while `body` runs.
  private func demo(port: Int = 0, _ body: (String) async throws -> Void) async throws {
    let process = try await ChildProcess.spawn(
      ["/bin/sh", "-c", "exec '\(Repository.tool)' demo --listen 127.0.0.1:\(port) 2>&1"],
      environment: Repository.environment)
    let limit = Task {
      try await Task.sleep(for: .seconds(120))
      process.send(.kill)
    }
    defer { limit.cancel() }
    let line = try await process.lines.read() ?? ""
    let url = try #require(line.split(separator: " ").first { $0.hasPrefix("http://") }, "\(line)")
    do { try await body(String(url.dropLast())) } catch {
      process.send(.terminate)
      throw error
    }
    process.send(.interrupt)
    let failure = try await process.waitForExit()
    #expect(failure == nil)
  }

  @Test("the demo page: every panel works, and two tabs share the room")
  func page() async throws {
    try await demo { url in
      try await Chromium.run { browser in
        let tab = try await browser.open(url + "/")
        try await tab.wait(
          until: "demo.echo.connection.isOpen && demo.events.ids.length > 0 && demo.play.state !== null")

        // Text and binary, compressed as the browser asks for it, in the subprotocol.
        try await tab.evaluate("demo.echo.send('grüße 🌊'); demo.echo.send('a'.repeat(500000))")
        try await tab.evaluate("demo.echo.send(new Uint8Array([0, 1, 2, 255]).buffer)")
        try await tab.wait(until: "demo.echo.texts.length === 2 && demo.echo.binaries.length === 1")
        #expect(try await tab.evaluate("demo.echo.texts[0] + demo.echo.texts[1].length") as? String == "grüße 🌊500000")
        #expect(try await tab.evaluate("demo.echo.binaries[0].join()") as? String == "0,1,2,255")
        #expect(try await tab.evaluate("demo.echo.connection.socket.protocol") as? String == "echo")
        let extensions = try await tab.evaluate("demo.echo.connection.socket.extensions") as? String
        #expect(extensions?.hasPrefix("permessage-deflate") == true)
        try await tab.wait(until: "demo.echo.roundTrips.length > 2 && demo.echo.rate > 0")

        // The form, as a person uses it.
        try await tab.evaluate("byId('echo-text').value = 'typed'; byId('echo-form').requestSubmit()")
        try await tab.wait(until: "demo.echo.texts.at(-1) === 'typed'")

        // The server's close, seen by the browser; it comes back.
        try await tab.evaluate("demo.echo.send('close 4001 because')")
        try await tab.wait(until: "demo.echo.connection.lastClose?.code === 4001")
        #expect(try await tab.evaluate("demo.echo.connection.lastClose.reason") as? String == "because")
        #expect(try await tab.evaluate("demo.echo.connection.lastClose.wasClean") as? Bool == true)
        try await tab.wait(until: "demo.echo.connection.isOpen && demo.echo.connection.reconnects === 1")
        // The browser's own.
        try await tab.evaluate("byId('echo-toggle').click()")
        try await tab.wait(until: "demo.echo.connection.lastClose.code === 1000")

        // Another tab.
        let other = try await browser.open(url + "/")
        try await other.wait(until: "demo.room.online === 2")
        try await tab.wait(until: "demo.room.online === 2")
        try await other.evaluate("demo.room.say('<b>hello</b>')")
        try await tab.wait(until: "demo.room.heard.at(-1)?.text === '<b>hello</b>'")
        #expect(try await tab.evaluate("document.querySelectorAll('#room-log b').length") as? Int == 0)
        try await other.close()
        try await tab.wait(until: "demo.room.online === 1")

        // A consumer that is slower holds its producer at the watermark.
        // The pipe with the watermark that it had before is run empty first.
        try await tab.evaluate(
          "Object.assign(demo.play.settings, { produce: 20, consume: 2000, high: 64 }); demo.play.tell()")
        try await tab.wait(
          until: "demo.play.state.high === 65536 && demo.play.state.buffered <= 2048 && !demo.play.state.waiting")
        try await tab.evaluate("Object.assign(demo.play.settings, { produce: 2000, consume: 20 }); demo.play.tell()")
        try await tab.wait(until: "demo.play.state.waiting")
        try await Task.sleep(for: .milliseconds(500))
        #expect(try await tab.evaluate("demo.play.state.buffered <= 65536 + 1024") as? Bool == true)
        try await tab.evaluate("Object.assign(demo.play.settings, { produce: 20, consume: 2000 }); demo.play.tell()")
        try await tab.wait(until: "demo.play.state.buffered <= 2048 && !demo.play.state.waiting")
      }
    }
  }

  @Test("after a crash of the server the page is back, and no event is missing")
  func restart() async throws {
    // The first server chooses the port, the second one takes it again.
    let first = try await ChildProcess.spawn(
      ["/bin/sh", "-c", "exec timeout --foreground 120 '\(Repository.tool)' demo --listen 127.0.0.1:0 2>&1"],
      environment: Repository.environment)
    let line = try await first.lines.read() ?? ""
    let url = try #require(line.split(separator: " ").first { $0.hasPrefix("http://") }, "\(line)")
    let port = try #require(Int(url.split(separator: ":").last?.filter(\.isNumber) ?? ""))
    try await Chromium.run { browser in
      let tab = try await browser.open(String(url))
      try await tab.wait(
        until: "demo.echo.connection.isOpen && demo.room.connection.isOpen && demo.events.ids.length > 1")
      // Which it does not handle: it is gone at once, as after a crash.
      first.send(.hangUp)
      _ = try? await first.waitForExit()
      try await tab.wait(until: "demo.echo.connection.lastClose?.code === 1006 && !demo.echo.connection.isOpen")
      try await Task.sleep(for: .seconds(3))
      try await demo(port: port) { _ in
        try await tab.wait(until: "demo.echo.connection.isOpen && demo.room.connection.isOpen && demo.events.opens > 1")
        try await tab.wait(until: "demo.events.ids.at(-1) >= Math.floor(Date.now() / 1000) - 1")
        #expect(try await tab.evaluate("demo.events.missed") as? Int == 0)
        #expect(try await tab.evaluate("demo.events.repeated") as? Int == 0)
        // 3 seconds without a server, and one or more on either side.
        #expect(try await tab.evaluate("demo.events.ids.length") as? Int ?? 0 >= 5)
        try await tab.evaluate("demo.echo.send('again')")
        try await tab.wait(until: "demo.echo.texts.at(-1) === 'again'")
      }
    }
  }

  @Test("an HTTPServer in TLS: a page, its WebSocket, its event stream in gzip and an upload, on one port")
  func secure() async throws {
    var options = HTTPServerOptions()
    options.tls = try await Certificates.load().server()
    var sockets = WebSocketHandshakeOptions()
    sockets.protocols = ["echo"]
    sockets.extensions = [PermessageDeflate()]
    var streams = EventSourceServerOptions()
    streams.compresses = true
    let server = try await HTTPServer.listen("https://127.0.0.1:0", options: options)
    let running = Task { [sockets, streams] in
      try await server.run(routes: [
        .page("/", "<!doctype html><title>secure</title>"),
        .webSocket("/echo", options: sockets) { ws in try await ws.pipe(ws) },
        .events("/feed", options: streams) { events in
          for number in 1...3 {
            try await events.send(String(repeating: "grüße ", count: number * 1000), id: "\(number)")
          }
          try await events.waitUntilClosed()
        },
        .respond("/upload", methods: [.put]) { request in
          .text("\((try await request.body.collect(limit: 2 << 20) as Bytes).count)")
        },
      ])
    }
    // Its certificate is of a root that the browser does not know.
    try await Chromium.run("--ignore-certificate-errors") { browser in
      let tab = try await browser.open("https://127.0.0.1:\(server.port)/")
      try await tab.wait(until: "document.title === 'secure' && isSecureContext && location.protocol === 'https:'")
      let echo = try await tab.evaluate(
        """
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`wss://${location.host}/echo`, 'echo');
          socket.onopen = () => socket.send('grüße'.repeat(10000));
          socket.onmessage = (message) => {
            socket.onclose = (close) =>
              resolve([socket.protocol, socket.extensions !== '', message.data.length, close.code, close.wasClean].join());
            socket.close(4000, 'done');
          };
          socket.onerror = () => reject('no WebSocket');
        })
        """)
      #expect(echo as? String == "echo,true,50000,4000,true")
      let events = try await tab.evaluate(
        """
        new Promise((resolve) => {
          const seen = [], feed = new EventSource('/feed');
          feed.onmessage = (event) => {
            seen.push(event.lastEventId + ':' + event.data.length);
            if (seen.length === 3) { feed.close(); resolve(seen.join()); }
          };
        })
        """)
      #expect(events as? String == "1:6000,2:12000,3:18000")
      let upload = try await tab.evaluate(
        "fetch('/upload', { method: 'PUT', body: 'x'.repeat(1000000) }).then((answer) => answer.text())")
      #expect(upload as? String == "1000000")
    }
    running.cancel()
    await #expect(throws: CancellationError.self) { try await running.value }
  }

  @Test("a thousand event streams, by curl")
  func thousand() async throws {
    try await demo { url in
      let script = """
        ulimit -n 4096; for part in 1 2 3 4; do
          (for n in $(seq 250); do echo "url=\(url)/events?$part-$n"; echo 'output=-'; done) |
            curl -sSN --parallel --parallel-immediate --parallel-max 250 --max-time 6 --config - 2>/dev/null &
        done; wait
        """
      let curl = try await ChildProcess.spawn(["/bin/bash", "-c", script], environment: Repository.environment)
      var ids: [String: Int] = [:]
      for try await line in curl.lines where line.hasPrefix("id: ") { ids[line, default: 0] += 1 }
      // Each second reached all of them, once they were there and until they began to leave.
      #expect(ids.values.filter { $0 == 1000 }.count >= 2, "\(ids)")
    }
  }
}
