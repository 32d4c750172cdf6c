import Logging
import Sluice
import SluiceTestSupport
import Testing

@testable import SluiceServer

@Suite("Limits and times of an HTTP server, at their last good value and their first bad one")
struct LimitTests {
  /// What a server answers to pieces that come at their times, and how long it takes until it has ended, on virtual time.
  private func answers(
    to pieces: [(at: Duration, text: String)], _ options: HTTPServerOptions = HTTPServerOptions()
  ) async throws -> (text: String, time: Duration) {
    let loop = SimulatedLoop()
    return try await loop.simulate {
      let (client, server) = SimulatedNetwork(loop: loop).connection()
      let connection = HTTPConnection(
        server,
        routes: [
          .respond("/echo", methods: [.get, .post]) {
            .bytes(try await $0.body.collect(limit: 1 << 20), type: "text/plain")
          }
        ],
        options: options, counter: options.listen.counter(), logger: Logger(label: "test"))
      let serving = Task(executorPreference: loop) { await connection.serve() }
      let writing = Task(executorPreference: loop) {
        for (time, text) in pieces {
          try await loop.sleep(for: time - loop.now)
          try await client.write(Bytes(text))
        }
      }
      let text = try await SluiceServerTests.answers(on: client)
      let time = loop.now
      writing.cancel()
      await serving.value
      return (text, time)
    }
  }

  private static let request = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"
  private static let lastRequest = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

  @Test("bytes of a body, in one piece or in chunks", arguments: [false, true])
  func body(isChunked: Bool) async throws {
    var options = HTTPServerOptions()
    options.maxBodySize = 10
    for (count, status) in [(10, "200"), (11, "413")] {
      let body = String(repeating: "x", count: count)
      let fields = isChunked ? "Transfer-Encoding: chunked" : "Content-Length: \(count)"
      let text = isChunked ? "5\r\nxxxxx\r\n\(String(count - 5, radix: 16))\r\n\(body.dropFirst(5))\r\n0\r\n\r\n" : body
      let (answer, _) = try await answers(
        to: [(.zero, "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(fields)\r\n\r\n\(text)")], options)
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
    }
  }

  @Test("the time for a head: the first counts from the beginning, another from its first byte")
  func head() async throws {
    let (first, rest) = (Self.lastRequest.prefix(5), Self.lastRequest.dropFirst(5))
    let last = try await answers(to: [(.zero, "\(first)"), (.milliseconds(9999), "\(rest)")])
    #expect(last.text.hasPrefix("HTTP/1.1 200 "))
    let late = try await answers(to: [(.zero, "\(first)"), (.milliseconds(10_001), "\(rest)")])
    #expect(late.text.hasPrefix("HTTP/1.1 408 ") && late.time == .seconds(10))
    let second = try await answers(
      to: [(.zero, Self.request), (.seconds(30), "\(first)"), (.milliseconds(39_999), "\(rest)")])
    #expect(second.text.components(of: "HTTP/1.1 200 ") == 2)
    let lateSecond = try await answers(
      to: [(.zero, Self.request), (.seconds(30), "\(first)"), (.milliseconds(40_001), "\(rest)")])
    #expect(lateSecond.text.components(of: "HTTP/1.1 408 ") == 1 && lateSecond.time == .seconds(40))
  }

  @Test("the time between two requests")
  func keepAlive() async throws {
    let last = try await answers(to: [(.zero, Self.request), (.milliseconds(59_999), Self.lastRequest)])
    #expect(last.text.components(of: "HTTP/1.1 200 ") == 2)
    let late = try await answers(to: [(.zero, Self.request), (.milliseconds(60_001), Self.lastRequest)])
    #expect(late.text.components(of: "HTTP/1.1 ") == 1 && late.time == .seconds(60))
  }
}

extension String {
  /// How often another text is in it.
  fileprivate func components(of text: String) -> Int { ranges(of: text).count }
}
