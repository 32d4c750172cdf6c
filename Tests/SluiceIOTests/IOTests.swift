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

@Suite("Files", .timeLimit(.minutes(1)))
struct FileTests {
  private func temporary(_ body: (FilePath) async throws -> Void) async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    defer { unsafe unlink(path) }
    try await body(FilePath(path))
  }

  @Test("what is written is read back, appended to, and updated in place")
  func roundTrip() async throws {
    try await temporary { path in
      let big = Bytes((0..<1_000_003).map { UInt8(truncatingIfNeeded: $0 &* 31) })
      try await SequenceStream([big]).chunks(of: 100_000).pipe(File.create(path))
      #expect(try await File.open(path).collect(limit: 2_000_000) == big)
      try await SequenceStream(["tail"] as [Bytes]).pipe(File.append(path))
      #expect(try await File.open(path, offset: 1_000_003).collect(limit: 10) == "tail")
      let update = try await File.update(path, readOffset: 1_000_000, writeOffset: 1_000_003)
      try await update.write("HEAD")
      try await update.close()
      #expect(try await update.collect(limit: 10).suffix(4) == "HEAD")
    }
  }

  @Test("errors say what was done to what, with the system's name of the error")
  func errors() async throws {
    await #expect(throws: IOError.self) { try await File.open("/tmp") }
    do {
      _ = try await File.open("/nonexistent/x")
    } catch let error as IOError {
      #expect(error.code == "ENOENT" && error.operation == "open" && error.subject == "/nonexistent/x")
    }
    await #expect(throws: IOError.self) { try await File.open("/etc/hostname", offset: -5) }
  }

  @Test("a full disk fails the pipe (ATTACKS 47)")
  func fullDisk() async throws {
    let full = try await File.append("/dev/full")
    do {
      try await SequenceStream(["x"] as [Bytes]).pipe(full)
      Issue.record("writing to /dev/full succeeded")
    } catch let error as IOError {
      #expect(error.code == "ENOSPC")
    }
  }

  @Test("a slow sink holds the reading of a large file")
  func backpressure() async throws {
    let zero = try await File.open("/dev/zero")
    var count = 0
    let first = zero.prefix(100)
    for try await chunk in first { count += chunk.count }
    #expect(count > 0)
    #expect(try await zero.read() == nil)
  }
}

@Suite("Standard streams", .timeLimit(.minutes(1)))
struct StandardStreamTests {
  @Test("one that is closed before its first use takes no more")
  func close() async throws {
    let output = StandardStream.output()
    try await output.close()
    try await output.close()
    await #expect(throws: StreamError.closed) { try await output.write("late") }
  }

  @Test("one that is cancelled before its first use has ended; closing its other half does nothing to it")
  func cancel() async throws {
    let input = StandardStream.input()
    try await input.close()
    input.cancel()
    #expect(try await input.read() == nil)
  }

  @Test("one that is aborted before its first use fails with the reason")
  func abort() async throws {
    let (input, output) = (StandardStream.input(), StandardStream.error())
    input.abort(StreamError.aborted)
    output.abort(StreamError.aborted)
    await #expect(throws: StreamError.aborted) { try await input.read() }
    await #expect(throws: StreamError.aborted) { try await output.write("late") }
    await #expect(throws: StreamError.aborted) { try await output.close() }
  }
}

@Suite("Sockets", .timeLimit(.minutes(1)))
struct SocketTests {
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

  @Test("a TCP connection tells where its peer is; a Unix socket's peer has no such address")
  func peerAddresses() async throws {
    let tcp = try await TCP.listen("127.0.0.1", port: 0)
    let unix = try await UnixSocket.listen("/tmp/sluice-test-\(UInt64.random(in: 0 ... .max)).sock")
    let clients = [try await TCP.connect("127.0.0.1", port: tcp.port), try await UnixSocket.connect(unix.name)]
    let servers = [try #require(try await tcp.read()), try #require(try await unix.read())]
    try await UVLoop.shared.run {
      #expect(clients[0].peerAddress?.description == tcp.name)
      #expect(servers[0].peerAddress?.host == "127.0.0.1")
      #expect(clients[1].peerAddress == nil && servers[1].peerAddress == nil)
    }
    for stream in clients + servers { stream.abort(StreamError.aborted) }
    tcp.cancel()
    unix.cancel()
  }

  @Test("a socket's file goes with its listener, and one that was left over is replaced")
  func unixFiles() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max)).sock"
    let first = try await UnixSocket.listen(path)
    await #expect(throws: IOError.self) { try await UnixSocket.listen(path) }
    first.cancel()
    try await settled()
    unsafe #expect(access(path, F_OK) != 0)
    let leftover = try await ChildProcess.spawn([
      "python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('\(path)')",
    ])
    #expect(try await leftover.waitForExit() == nil)
    unsafe #expect(access(path, F_OK) == 0)
    try await UnixSocket.listen(path).cancel()
    await #expect(throws: IOError.self) { try await UnixSocket.connect(String(repeating: "x", count: 200)) }
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

  @Test("a file that is no socket is never removed, neither to listen in its place nor when the listening stops")
  func unixFilesOfOthers() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max)).txt"
    func write(_ text: String) async throws {
      let file = try await File.create(FilePath(path))
      try await file.write(Bytes(text))
      try await file.close()
    }
    func contents() async throws -> String { (try await File.open(FilePath(path)).collect(limit: 100) as Bytes).string }
    try await write("precious")
    let error = await #expect(throws: IOError.self) { try await UnixSocket.listen(path) }
    #expect(error?.code == "EADDRINUSE")
    #expect(try await contents() == "precious")
    // A link to a socket that is left over is not the socket.
    let link = path + ".link"
    unsafe #expect(symlink(path, link) == 0)
    await #expect(throws: IOError.self) { try await UnixSocket.listen(link) }
    unsafe #expect(access(link, F_OK) == 0)
    unsafe unlink(link)
    // Replaced while it is listened on, by somebody who removed ours.
    unsafe unlink(path)
    let listener = try await UnixSocket.listen(path)
    unsafe unlink(path)
    try await write("a later one's")
    listener.cancel()
    try await settled()
    #expect(try await contents() == "a later one's")
    unsafe unlink(path)
  }

  @Test("an abstract name that is taken leaves no descriptor behind")
  func abstractNameTaken() async throws {
    let name = "@sluice-test-\(UInt64.random(in: 0 ... .max))"
    let listener = try await UnixSocket.listen(name)
    let before = try openDescriptors()
    // More than other tests open meanwhile, or than may be open at all.
    for _ in 0..<5000 {
      do {
        _ = try await UnixSocket.listen(name)
        Issue.record("it is taken")
      } catch let error as IOError {
        try #require(error.code == "EADDRINUSE")
      }
    }
    #expect(try openDescriptors() < before + 2500)
    listener.cancel()
  }

  private func openDescriptors() throws -> Int {
    let folder = try unsafe #require(opendir("/proc/self/fd"))
    defer { unsafe closedir(folder) }
    var count = 0
    while unsafe readdir(folder) != nil { count += 1 }
    return count
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

  /// A timer that is due at once, again and again.
  private final class RestlessTimer: @unchecked Sendable {  // touched on its loop only
    var isStopped = false
    func start(on loop: UVLoop) {
      if !isStopped { _ = loop.schedule(after: .zero) { self.start(on: loop) } }
    }
  }

  @Test("timers that are due at once, again and again, leave the loop to others")
  func restlessTimers() async throws {
    let loop = try UVLoop(name: "restless")
    defer { loop.stop() }
    let timer = RestlessTimer()
    try await loop.run { timer.start(on: loop) }
    try await Task.sleep(for: .milliseconds(20))
    let processor = try await ProcessorTime(of: loop)
    let start = processor.now
    #expect(try await loop.run { processor.now } - start < .milliseconds(100))
    try await loop.run { timer.isStopped = true }
  }

  @Test("several loops share a port")
  func sharedPort() async throws {
    let (one, two) = try (UVLoop(name: "one"), UVLoop(name: "two"))
    let first = try await TCP.listen("127.0.0.1", port: 0, sharesPort: true, on: one)
    let second = try await TCP.listen("127.0.0.1", port: first.port, sharesPort: true, on: two)
    first.cancel()
    _ = try await one.run { true }
    let client = try await TCP.connect("127.0.0.1", port: second.port)
    let server = try #require(try await second.read())
    #expect(server.loop === two)
    client.abort(StreamError.aborted)
    server.abort(StreamError.aborted)
    second.cancel()
    _ = try await two.run { true }
    one.stop()
    two.stop()
  }

  @Test("cancellation at any await leaves no handle and no timer")
  func cancellation() async throws {
    let loop = try UVLoop(name: "counted")
    let listener = try await TCP.listen("127.0.0.1", port: 0, on: loop)
    for _ in 0..<20 {
      let reading = Task { try await listener.read() }
      let connecting = Task { try await TCP.connect("127.0.0.1", port: listener.port, on: loop) }
      let hopeless = Task { try await TCP.connect("192.0.2.1", port: 9, on: loop) }
      try await Task.sleep(for: .milliseconds(1))
      hopeless.cancel()
      _ = try? await hopeless.value
      let client = try await connecting.value
      let server = try #require(try await reading.value)
      let piping = Task { try await server.pipe(client) }
      let waiting = Task { try await client.write(Bytes([UInt8](repeating: 0, count: 32 << 20))) }
      try await Task.sleep(for: .milliseconds(2))
      piping.cancel()
      waiting.cancel()
      _ = try? await piping.value
      _ = try? await waiting.value
      client.abort(StreamError.aborted)
      server.abort(StreamError.aborted)
    }
    listener.cancel()
    try await Task.sleep(for: .milliseconds(100))
    #expect(try await loop.run { loop.openHandles } == 0)
    #expect(try await loop.run { loop.openTimers } == 0)
    loop.stop()
  }

  @Test("signals are a stream")
  func signals() async throws {
    let signals = Signals([.user1])
    _ = try await UVLoop.shared.run { true }
    kill(getpid(), SIGUSR1)
    #expect(try await signals.read() == .user1)
    signals.cancel()
    #expect(try await signals.read() == nil)
  }
}
