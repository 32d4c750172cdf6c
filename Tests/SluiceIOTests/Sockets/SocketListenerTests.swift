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

@Suite("Listening", .timeLimit(.minutes(1)))
struct SocketListenerTests {
  @Test("connections that are accepted have the listener's options")
  func acceptedOptions() async throws {
    var options = TCP.Options()
    options.writeHighWatermark = 12_345
    let listener = try await TCP.listen("127.0.0.1", port: 0, options: options)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    #expect(server.highWatermark == 12_345)
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    listener.cancel()
  }

  @Test("a listener of IPv6 takes IPv4 as well, where its address does")
  func dualStack() async throws {
    let listener = try await TCP.listen("::", port: 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    // Its address is the IPv4 one, whichever the socket is of.
    #expect(server.name.hasPrefix("127.0.0.1:"))
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    listener.cancel()
  }

  @Test("a listener that nobody reads costs no processor time, and gives all that wait to the next reader")
  func waitingPeers() async throws {
    let loop = try UVLoop(name: "waiting")
    defer { loop.stop() }
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    var clients: [SocketStream] = [try await TCP.connect("127.0.0.1", port: listener.port)]
    _ = try await listener.read()
    for _ in 0..<100 { clients.append(try await TCP.connect("127.0.0.1", port: listener.port)) }
    let processor = try await ProcessorTime(of: loop)
    let before = processor.now
    try await Task.sleep(for: .milliseconds(300))
    #expect(processor.now - before < .milliseconds(30))
    for _ in 0..<100 { _ = try await listener.read() }
    listener.cancel()
    #expect(try await listener.read() == nil)
    for client in clients { client.abort(StreamError.aborted) }
  }
}
