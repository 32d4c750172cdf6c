import Logging
import SluiceHTTP
import SluiceServer
import SluiceStreams
import SluiceTesting

/// What a client writes to an HTTP server, requests with bodies one behind the other: the answers don't depend on how it is cut, each is well-formed, and
/// there are no more than requests can have been.
enum HTTPServerTarget: FuzzTarget {
  static let name = "http-server"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let seed = reader.byte()
    let wire = reader.rest
    let whole = answers(to: wire, seed: nil)
    check(whole, to: wire)
    let cut = answers(to: wire, seed: seed)
    check(cut, to: wire)
    // Where a handler does not read the body of a request, it depends on what has come of it whether the connection goes on.
    if wire.string.contains("/unread") { return }
    let (first, second) = (undated(cut), undated(whole))
    promise(first == second, "cut \(first), whole \(second)")
  }

  /// Without the dates, which are the real ones.
  private static func undated(_ answers: Bytes) -> String {
    answers.string.split(separator: "\r\n", omittingEmptySubsequences: false).filter { !$0.hasPrefix("Date: ") }
      .joined(separator: "\r\n")
  }

  private static func answers(to wire: Bytes, seed: UInt8?) -> Bytes {
    let loop = SimulatedLoop()
    do {
      return try loop.simulateHere {
        var network = SimulatedNetwork(loop: loop)
        network.delay = .milliseconds(1)
        network.window = 1 << 20
        let (client, server) = network.connection()
        var options = HTTPServerOptions()
        options.headLimits = HeadLimits(maxHeadBytes: 500, maxFieldCount: 8)
        options.maxBodySize = 1000
        let connection = HTTPConnection(
          server, routes: routes, options: options, counter: options.listen.counter(),
          logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
        let serving = Task(executorPreference: loop) { await connection.serve() }
        let reading = Task(executorPreference: loop) {
          var output = BytesBuilder()
          do { while let chunk = try await client.read() { output.append(chunk) } } catch {
            promise(false, "a client that reads to the end is told of \(error)")
          }
          return output.take()
        }
        await write(wire, over: client, seed: seed, on: loop)
        let output = await reading.value
        client.cancel(nil)
        await serving.value
        try await loop.sleep(for: .seconds(60))
        promise(loop.openTimers == 0, "\(loop.openTimers) timers are left")
        return output
      }
    } catch {
      promise(false, "\(error)")
      return Bytes()
    }
  }

  private static func write(_ bytes: Bytes, over stream: SimulatedStream, seed: UInt8?, on loop: SimulatedLoop) async {
    var generator = SplitMix(state: UInt64(seed ?? 0))
    var rest = bytes
    while !rest.isEmpty {
      let size = seed == nil ? rest.count : seed == 255 ? 1 : 1 + generator.below(1 << (1 + generator.below(8)))
      guard (try? stream.push(rest.prefix(size))) != nil else { return }
      stream.flush()
      rest = rest.dropFirst(size)
      if seed != nil, generator.below(2) == 0 { try? await loop.sleep(for: .milliseconds(generator.below(4))) }
    }
    try? await stream.close()
  }

  private static var routes: [HTTPRoute] {
    [
      .respond("/get", methods: [.get]) { _ in .text("got") },
      .respond("/echo", methods: [.post]) { request in
        let body: Bytes = try await request.body.collect(limit: 1 << 20)
        return .bytes(body, type: "text/plain")
      },
      .respond("/unread", methods: [.get, .post]) { _ in .text("unread") },
    ]
  }

  /// Whole answers, one behind the other, up to the end.
  private static func check(_ output: Bytes, to wire: Bytes) {
    if wire.string.contains("HEAD") { return }
    var rest = output
    var count = 0
    while !rest.isEmpty {
      var reader = HeadReader()
      guard let (bytes, behind) = try? reader.consume(rest), let response = try? ResponseHead(bytes).response else {
        return promise(false, "answer \(count) is none: \(rest.string)")
      }
      rest = behind
      if response.status.kind == .informational { continue }
      count += 1
      guard case .length(let length)? = try? BodyFraming(ofResponse: response.headerFields) else {
        return promise(false, "an answer without a length: \(bytes.string)")
      }
      promise(Int(exactly: length).map { $0 <= rest.count } ?? false, "an answer that is cut")
      rest = rest.dropFirst(Int(clamping: length))
    }
    // The shortest request line that is one, with its end; and the one that is refused.
    promise(count <= wire.count / 16 + 1, "\(count) answers to \(wire.count) bytes")
  }

  // MARK: inputs

  private static let parts: [StaticString] = [
    "GET /get HTTP/1.1\r\nHost: a\r\n\r\n", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    "3\r\nabc\r\n", "0\r\n\r\n", "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /get HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n", "\r", "\n", "abc", "GET ",
    "/get", " HTTP/1.1\r\n", "Host: a\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n",
    "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
    "POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nxyz", "5;a=b\r\nhello\r\n", "0\r\nA: b\r\n\r\n",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 512)
    builder.append(generator.byte())
    for _ in 0..<generator.below(10) {
      if generator.below(20) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
