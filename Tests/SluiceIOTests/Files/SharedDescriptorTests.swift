import SluiceStreams
import Testing

@testable import SluiceIO

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What this process shares with others: kinds of descriptors, each with a peer.
private enum SharedKind: String, CaseIterable, CustomTestStringConvertible {
  case pipe, socketPair, terminal, controllingEnd, namedPipe

  var testDescription: String { rawValue }

  /// - Returns: the two ends; what is written to either is read from the other, where it is no pipe.
  func open() throws -> (ours: CInt, peers: CInt) {
    var ends: [CInt] = [-1, -1]
    switch self {
    case .pipe: try #require(unsafe Glibc.pipe(&ends) == 0)
    case .socketPair: try #require(unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
    case .terminal, .controllingEnd:
      let pair = try Pseudoterminal()
      ends = [pair.controllingEnd, unsafe Glibc.open(pair.path, O_RDWR | O_NOCTTY)]
      var settings = termios()
      unsafe tcgetattr(ends[1], &settings)
      unsafe cfmakeraw(&settings)
      unsafe tcsetattr(ends[1], TCSANOW, &settings)
    case .namedPipe:
      let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
      try #require(unsafe mkfifo(path, 0o600) == 0)
      ends[0] = unsafe Glibc.open(path, O_RDONLY | O_NONBLOCK)
      ends[1] = unsafe Glibc.open(path, O_WRONLY)
      _ = fcntl(ends[0], F_SETFL, 0)
      unsafe unlink(path)
    }
    try #require(ends[0] >= 0 && ends[1] >= 0)
    // Of a pipe, the first end is read.
    return self == .terminal ? (ends[1], ends[0]) : (ends[0], ends[1])
  }
}

@Suite("Descriptors that others share", .timeLimit(.minutes(1)))
struct SharedDescriptorTests {
  private func doesBlock(_ descriptor: CInt) -> Bool { fcntl(descriptor, F_GETFL) & O_NONBLOCK == 0 }

  private func stream(
    _ descriptor: CInt, isInput: Bool
  ) async throws -> any PolledDuplexStream<Bytes, Bytes> {
    try await UVLoop.shared.run {
      try SharedDescriptor.stream(of: descriptor, isInput: isInput, name: "shared", on: .shared)
    }
  }

  private func pipe(_ source: some PolledReadableStream<Bytes>, to sink: some PolledWritableStream<Bytes>) async throws
  {
    try await source.pipe(sink)
  }

  @Test("what is read comes, and the flags stay as they are", arguments: SharedKind.allCases)
  fileprivate func reading(_ kind: SharedKind) async throws {
    let (ours, peers) = try kind.open()
    defer { close(ours) }
    let input = try await stream(ours, isInput: true)
    let reading = Task { try await input.read() }
    try await Task.sleep(for: .milliseconds(20))
    #expect(doesBlock(ours))
    #expect(unsafe write(peers, "abc", 3) == 3)
    #expect(try await reading.value == "abc")
    #expect(doesBlock(ours))
    input.cancel(nil)
    close(peers)
  }

  @Test("the end of what is read is its end", arguments: [SharedKind.pipe, .socketPair, .namedPipe])
  fileprivate func end(_ kind: SharedKind) async throws {
    let (ours, peers) = try kind.open()
    defer { close(ours) }
    #expect(unsafe write(peers, "abc", 3) == 3)
    close(peers)
    let input = try await stream(ours, isInput: true)
    #expect(try await input.read() == "abc")
    #expect(try await input.read() == nil)
    #expect(doesBlock(ours))
  }

  @Test("more is written than there is room for, and the flags stay as they are", arguments: SharedKind.allCases)
  fileprivate func writing(_ kind: SharedKind) async throws {
    let (first, second) = try kind.open()
    let isPipe = kind == .pipe || kind == .namedPipe
    let (ours, peers) = isPipe ? (second, first) : (first, second)
    defer { close(ours) }
    let output = try await stream(ours, isInput: false)
    let size = 300_000
    let writing = Task {
      try await output.write(Bytes([UInt8](repeating: 0x41, count: size)))
      try await output.close()
    }
    try await Task.sleep(for: .milliseconds(20))
    #expect(doesBlock(ours))
    _ = fcntl(peers, F_SETFL, O_NONBLOCK)
    var count = 0
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while count < size {
      let read = unsafe Glibc.read(peers, &buffer, buffer.count)
      if read > 0 { count += read } else { try await Task.sleep(for: .milliseconds(1)) }
    }
    try await writing.value
    #expect(doesBlock(ours))
    // Nothing was ended for others.
    #expect(unsafe write(ours, "z", 1) == 1)
    close(peers)
  }

  @Test(
    "whose reader has gone takes no more, and who waits to write is told while there is nothing to write",
    arguments: [SharedKind.pipe, .socketPair, .terminal])
  fileprivate func gone(_ kind: SharedKind) async throws {
    let (first, second) = try kind.open()
    let (ours, peers) = kind == .pipe ? (second, first) : (first, second)
    defer { close(ours) }
    let output = try await stream(ours, isInput: false)
    // Nothing ever comes of this source.
    let (sources, others) = try SharedKind.socketPair.open()
    let source = try await stream(sources, isInput: true)
    let piping = Task { try await pipe(source, to: output) }
    try await Task.sleep(for: .milliseconds(20))
    close(peers)
    await #expect(throws: StreamError.closed) { try await piping.value }
    for descriptor in [sources, others] { close(descriptor) }
  }

  @Test("of a named pipe another reader may come: only a write that nobody reads is told")
  func anotherReader() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    try #require(unsafe mkfifo(path, 0o600) == 0)
    defer { unsafe unlink(path) }
    let first = unsafe open(path, O_RDONLY | O_NONBLOCK)
    let ours = unsafe open(path, O_WRONLY)
    defer { close(ours) }
    let output = try await stream(ours, isInput: false)
    close(first)
    try await Task.sleep(for: .milliseconds(20))
    let second = unsafe open(path, O_RDONLY | O_NONBLOCK)
    try await output.write("abc")
    try await UVLoop.shared.run { output.flush() }
    var buffer = [UInt8](repeating: 0, count: 8)
    #expect(unsafe read(second, &buffer, 8) == 3)
    close(second)
    await #expect(throws: IOError.self) { while true { try await output.write("abc") } }
  }

  @Test("a pipe that nobody reads any more when it is opened is closed")
  func closedBefore() async throws {
    let (ours, peers) = try SharedKind.pipe.open()
    defer { close(peers) }
    close(ours)
    await #expect(throws: StreamError.closed) { _ = try await stream(peers, isInput: false) }
  }

  @Test("a second watch of one descriptor is refused, and the first goes on")
  func secondWatch() async throws {
    let (ours, peers) = try SharedKind.socketPair.open()
    let watched = try await UVLoop.shared.run {
      let watch = try DescriptorWatch(ours, on: .shared, operation: "open", subject: "first")
      return SocketStream(watch, on: .shared, name: "first")
    }
    do {
      try await UVLoop.shared.run {
        _ = try DescriptorWatch(ours, on: .shared, operation: "open", subject: "second")
      }
      Issue.record("was not refused")
    } catch let error as IOError {
      #expect(error.code == "EBUSY" && error.subject == "second")
    }
    let reading = Task { try await watched.read() }
    #expect(unsafe write(peers, "abc", 3) == 3)
    #expect(try await reading.value == "abc")
    watched.abort(StreamError.aborted)
    close(peers)
  }

  @Test(
    "two streams of one output write side by side, and leave no descriptor behind",
    arguments: [SharedKind.pipe, .socketPair])
  fileprivate func twoStreams(_ kind: SharedKind) async throws {
    let (first, second) = try kind.open()
    let (ours, peers) = kind == .pipe ? (second, first) : (first, second)
    defer {
      close(ours)
      close(peers)
    }
    for _ in 0..<50 {
      let (one, two) = (try await stream(ours, isInput: false), try await stream(ours, isInput: false))
      try await one.write("a")
      try await two.write("b")
      try await one.close()
      try await two.close()
    }
    var buffer = [UInt8](repeating: 0, count: 200)
    #expect(unsafe read(peers, &buffer, 200) == 100)
  }
}
