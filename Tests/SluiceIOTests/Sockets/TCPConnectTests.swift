import SluiceIO
import SluiceStreams
import SluiceTestSupport
import SystemPackage
import Testing

@testable import SluiceIO

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What was asked of the shared loop before has been done.
private func settled() async throws {
  _ = try await UVLoop.shared.run { true }
}

@Suite("Connecting by TCP", .timeLimit(.minutes(1)))
struct TCPConnectTests {
  @Test("nobody listens: the address and the system's name of the error")
  func refused() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    listener.cancel()
    let port = listener.port
    try await settled()
    do {
      _ = try await TCP.connect("127.0.0.1", port: port)
      Issue.record("connected to nobody")
    } catch let error as IOError {
      #expect(error.code == "ECONNREFUSED" && error.subject == "127.0.0.1:\(port)")
    }
  }

  @Test("ports that are none are refused by every way", arguments: [-1, 65_536, 65_558, .max, .min])
  func invalidPorts(port: Int) async throws {
    await #expect(throws: IOError.self) { try await TCP.connect("127.0.0.1", port: port) }
    await #expect(throws: IOError.self) { try await TCP.listen("127.0.0.1", port: port) }
    await #expect(throws: IOError.self) { try await Resolver.resolve("127.0.0.1", port: port) }
    #expect(SocketAddress(numeric: "127.0.0.1", port: port) == nil)
  }

  @Test("a name that does not resolve, a port out of range, an address in use")
  func errors() async throws {
    await #expect(throws: IOError.self) { try await TCP.connect("name.invalid", port: 80) }
    await #expect(throws: IOError.self) { try await TCP.connect("127.0.0.1", port: 70_000) }
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    await #expect(throws: IOError.self) { try await TCP.listen("127.0.0.1", port: listener.port) }
    listener.cancel()
  }

  @Test("a connection that nobody answers ends at its time limit")
  func timeout() async throws {
    // 192.0.2.0/24 is for documentation (RFC 5737): nobody answers. Without any route, the failure is immediate.
    let start = ContinuousClock.now
    await #expect(throws: IOError.self) {
      try await TCP.connect("192.0.2.1", port: 9, timeout: .milliseconds(200))
    }
    #expect(ContinuousClock.now - start < .seconds(30))
  }

  @Test("localhost is reached whichever of its addresses listens")
  func happyEyeballs() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let client = try await TCP.connect("localhost", port: listener.port)
    let server = try #require(try await listener.read())
    try await client.close()
    #expect(try await server.read() == nil)
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    listener.cancel()
  }
}
