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

@Suite("Sockets", .timeLimit(.minutes(1)))
struct SocketStreamTests {
  @Test(
    "a host with a NUL is none, by every way: the system would take what stands before it",
    arguments: ["127.0.0.1\0.example.com", "localhost\0", "\0"])
  func hostWithNUL(host: String) async throws {
    await #expect(throws: IOError.self) { try await TCP.connect(host, port: 80) }
    await #expect(throws: IOError.self) { try await TCP.listen(host, port: 0) }
    await #expect(throws: IOError.self) { try await Resolver.resolve(host, port: 80) }
    await #expect(throws: IOError.self) {
      var options = TCP.Options()
      options.localAddress = host
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      defer { listener.cancel() }
      _ = try await TCP.connect("127.0.0.1", port: listener.port, options: options)
    }
    #expect(SocketAddress(numeric: host, port: 80) == nil && IPAddress(host) == nil && IPNetwork(host + "/8") == nil)
  }

  @Test("a reset right behind the last bytes is an error, after those bytes")
  func resetBehindData() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    try await server.write("last")
    server.abort(StreamError.aborted)
    // Both have arrived before anybody reads.
    try await Task.sleep(for: .milliseconds(50))
    #expect(try await client.read() == "last")
    do {
      let end = try await client.read()
      Issue.record("the reset was read as \(String(describing: end))")
    } catch let error as IOError {
      #expect(error.code == "ECONNRESET" && error.operation == "read")
    }
    client.abort(StreamError.aborted)
    listener.cancel()
  }

  @Test("a socket is read once for each time that the loop tells of something, however much there is")
  func oneReadInTurn() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    let reader = EagerReader(client, answeredBy: server)
    try await client.loop.run {
      try client.attachReader(reader)
      reader.wakeReader()
      try server.push("0")
      server.flush()
    }
    while try await client.loop.run({ reader.turns.joined().count }) < 10 {
      try await Task.sleep(for: .milliseconds(1))
    }
    try await client.loop.run {
      #expect(reader.turns.filter { !$0.isEmpty } == (0..<10).map { [Bytes("\($0)")] })
      client.abort(StreamError.aborted)
      server.abort(StreamError.aborted)
    }
    listener.cancel()
  }

  /// Takes all that there is each time that it is woken, and has more sent for each chunk meanwhile.
  private final class EagerReader: SingleWaker, @unchecked Sendable {  // touched on the loop only
    private let socket: SocketStream
    private let peer: SocketStream
    private(set) var turns: [[Bytes]] = []

    init(_ socket: SocketStream, answeredBy peer: SocketStream) {
      self.socket = socket
      self.peer = peer
    }

    func wake() {
      var chunks: [Bytes] = []
      while case .element(let chunk)? = try? socket.poll() {
        chunks.append(chunk.compacted())
        // Over the loopback it is there when the call returns.
        let count = turns.joined().count + chunks.count
        if count < 10 { _ = peer.sendAtOnce(Bytes("\(count)").span) }
      }
      turns.append(chunks)
    }
  }

  @Test("what waits to be written keeps no larger buffer alive, whether it was flushed before or not")
  func queuedMemory() async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let server = try #require(try await listener.read())
    try await client.loop.run {
      let chunk = Bytes([UInt8](repeating: 1, count: 64 << 10))
      while client.queuedByteCount == 0 {
        try client.push(chunk)
        client.flush()
      }
      for flushes in [false, true] {
        weak var buffer: ByteStorage?
        do {
          let storage = ByteStorage(capacity: 256 << 10)
          unsafe storage.pointer.update(repeating: 7, count: 1000)
          buffer = storage
          for index in 0..<1000 {
            let byte = Bytes(storage: storage, start: index, end: index + 1)
            try client.push(byte)
            if flushes { client.flush() }
          }
          client.flush()
        }
        #expect(buffer == nil)
      }
    }
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    listener.cancel()
  }
}
