import SluiceClient
import SluiceEventSource
import SluiceHTTP
import SluiceStreams
import SluiceTesting
import SluiceZlib

/// What a server answers to a client of event streams, from its first byte to its end, in any coding: events and end don't depend on how it is cut, and are
/// those of the text that was sent.
enum EventClientTarget: FuzzTarget {
  static let name = "event-client"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = Settings(rawValue: reader.byte())
    let seed = reader.byte()
    let answer = settings.contains(.answers) ? answer(reader.rest, settings) : reader.rest
    let whole = read([answer])
    let cut = read(pieces(answer, seed))
    promise(cut == whole, "cut \(cut), whole \(whole)")
    // What can be sent in order comes as it was.
    if settings.isWellFramed {
      promise(whole.events == parsed(reader.rest), "read \(whole), sent \(parsed(reader.rest))")
    }
  }

  private struct Settings: OptionSet {
    let rawValue: UInt8
    /// A head stands before the input, which is the body's text.
    static let answers = Settings(rawValue: 1)
    static let chunked = Settings(rawValue: 2)
    static let hasLength = Settings(rawValue: 4)
    static let compressed = Settings(rawValue: 8)
    /// The input stands there as if it were compressed, or chunks, already.
    static let raw = Settings(rawValue: 16)
    /// Twice.
    static let compressedTwice = Settings(rawValue: 32)

    var isWellFramed: Bool { contains(.answers) && isDisjoint(with: .raw) }
  }

  private struct Reading: Equatable {
    var events: [ServerSentEvent] = []
    /// The kind of the error behind them.
    var end = ""
  }

  private static func answer(_ text: Bytes, _ settings: Settings) -> Bytes {
    var head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    var body = text
    let codings = settings.contains(.compressed) ? (settings.contains(.compressedTwice) ? 2 : 1) : 0
    if codings > 0 { head += "Content-Encoding: \(codings == 2 ? "gzip, gzip" : "gzip")\r\n" }
    if !settings.contains(.raw) { for _ in 0..<codings { body = compressed(body) } }
    if settings.contains(.chunked) {
      head += "Transfer-Encoding: chunked\r\n"
      if !settings.contains(.raw) {
        var chunks = BytesBuilder()
        var rest = body
        while !rest.isEmpty {
          let chunk = rest.prefix(100)
          chunks.append(chunk: chunk.span)
          rest = rest.dropFirst(chunk.count)
        }
        chunks.appendLastChunk()
        body = chunks.take()
      }
    } else if settings.contains(.hasLength) {
      head += "Content-Length: \(body.count)\r\n"
    }
    return Bytes(head + "\r\n").followed(by: body)
  }

  private static func compressed(_ text: Bytes) -> Bytes {
    var output = BytesBuilder()
    output.append(GzipWriter.header)
    var writer = GzipWriter(DeflateSettings(windowBits: 15))
    writer.append(text.span, to: &output)
    writer.finish(to: &output)
    return output.take()
  }

  /// In pieces of random sizes, down to single bytes.
  private static func pieces(_ bytes: Bytes, _ seed: UInt8) -> [Bytes] {
    var generator = SplitMix(state: UInt64(seed))
    var pieces: [Bytes] = []
    var rest = bytes
    while !rest.isEmpty {
      let size = seed == 255 ? 1 : 1 + generator.below(1 << (1 + generator.below(8)))
      pieces.append(rest.prefix(size))
      rest = rest.dropFirst(size)
    }
    return pieces
  }

  private static var limits: EventStreamLimits {
    var limits = EventStreamLimits()
    limits.maxEventBytes = 1000
    return limits
  }

  private static func parsed(_ text: Bytes) -> [ServerSentEvent] {
    var parser = EventStreamParser(limits: limits)
    var rest = text
    var events: [ServerSentEvent] = []
    while let event = try? parser.next(from: &rest) { events.append(event) }
    return events
  }

  private static func read(_ pieces: [Bytes]) -> Reading {
    let loop = SimulatedLoop()
    do {
      return try loop.simulateHere {
        var network = SimulatedNetwork(loop: loop)
        network.window = 1 << 20
        let (near, far) = network.connection()
        let serving = Task(executorPreference: loop) { await serve(pieces, over: far, on: loop) }
        let reading = await events(over: near, on: loop)
        await serving.value
        try await loop.sleep(for: .seconds(60))
        promise(loop.openTimers == 0, "\(loop.openTimers) timers are left")
        return reading
      }
    } catch {
      promise(false, "\(error)")
      return Reading()
    }
  }

  private static func serve(_ pieces: [Bytes], over stream: SimulatedStream, on loop: SimulatedLoop) async {
    var request = HeadReader(.request)
    while let chunk = try? await stream.read() {
      if (try? request.consume(chunk)) != nil { break }
    }
    for piece in pieces {
      guard (try? stream.push(piece)) != nil else { break }
      stream.flush()
      if pieces.count > 1 { try? await loop.sleep(for: .milliseconds(1)) }
    }
    try? await stream.close()
    stream.cancel(nil)
  }

  private static func events(over stream: SimulatedStream, on loop: SimulatedLoop) async -> Reading {
    var options = EventSourceClientOptions()
    options.reconnects = false
    options.limits = limits
    options.headLimits = HeadLimits(maxHeadBytes: 500, maxFieldCount: 8)
    var reading = Reading()
    do {
      let client = try await EventSource.connect("http://test/feed", options: options, on: loop) { _, _ in
        RequestRoute(stream)
      }
      while let event = try await client.read() { reading.events.append(event) }
      reading.end = "end"
    } catch {
      // Without what it says of the body, of which more or less may be there.
      reading.end = "\(type(of: error)) \(error)".prefix { $0 != "(" && !$0.isNumber }.description
    }
    return reading
  }

  // MARK: inputs

  private static let texts: [StaticString] = [
    "data", "event", "id", "retry", ":", ": ", " ", "\n", "\r", "\r\n", "\n\n", "a", "é", "12", "\u{FEFF}",
    "data: x\n\n", "id: 7\n",
    "data: 0123456789012345678901234567890123456789\n",
  ]
  private static let heads: [StaticString] = [
    "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 301 Moved\r\nLocation: /x\r\n",
    "Content-Type: text/event-stream\r\n", "Content-Type: text/html\r\n", "Content-Encoding: gzip\r\n",
    "Content-Encoding: br\r\n",
    "Transfer-Encoding: chunked\r\n", "Content-Length: 9\r\n", "\r\n", "\r\n\r\n", "5\r\ndata:\r\n", "2\r\n\n\n\r\n",
    "0\r\n\r\n", "data: x\n\n", ":",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    let settings = Settings(rawValue: generator.byte())
    builder.append(settings.rawValue)
    builder.append(generator.byte())
    let parts = settings.contains(.answers) ? texts : heads
    for _ in 0..<generator.below(24) {
      if generator.below(20) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
