import Sluice
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A server in a process of its own: see `Server/main.swift`.
struct AttackedServer {
  let port: Int
  private let process: ChildProcess

  /// Runs `body` while it serves, and makes sure afterwards that it still does.
  /// - Parameter descriptors: How many it may have open; nil, the default, leaves it to the system.
  static func run(
    _ mode: String = "pipe", _ settings: String..., descriptors: Int? = nil,
    body: (AttackedServer) async throws -> Void
  ) async throws {
    let limit = descriptors.map { ["/bin/sh", "-c", "ulimit -n \($0); exec \"$0\" \"$@\""] } ?? []
    let process = try await ChildProcess.spawn(limit + [program, mode] + settings)
    let port = try #require(try await process.lines.read().flatMap { Int($0) })
    let server = AttackedServer(port: port, process: process)
    try await body(server)
    if mode != "close" { try await server.echoes() }
    try await process.close()
    _ = try? await process.waitForExit()
  }

  /// Beside the program that runs the tests, whatever the build's folder.
  private static let program: String = {
    let tests = CommandLine.arguments[0]
    return tests.prefix(upTo: tests.lastIndex(of: "/") ?? tests.startIndex) + "/attacked-server"
  }()

  /// What it says next.
  func nextOutput() async throws -> String? { try await process.read()?.string }

  func connect() async throws -> Attacker {
    Attacker(socket: try await TCP.connect("127.0.0.1", port: port))
  }

  /// A connection whose opening handshake is done.
  func open() async throws -> Attacker {
    let attacker = try await connect()
    try await attacker.send(Attacker.handshake)
    let head = try await attacker.receiveHead()
    #expect(head.hasPrefix("HTTP/1.1 101 "))
    return attacker
  }

  /// Whether it lives and works: a new connection gets its echo and its Close.
  func echoes(sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let attacker = try await open()
    try await attacker.send(frame(0x81, "alive") + frame(0x88, [0x03, 0xE8]))
    let answer = await attacker.receiveAll()
    #expect(answer.bytes == [0x81, 5] + Array("alive".utf8) + [0x88, 2, 0x03, 0xE8], sourceLocation: sourceLocation)
    #expect(answer.end == .closed, sourceLocation: sourceLocation)
  }

  /// Bytes of memory that it has resident.
  func residentMemory() throws -> Int {
    #if SANITIZED
      // A sanitizer's own memory grows with everything that is touched.
      return 0
    #else
      return try measuredResidentMemory()
    #endif
  }

  private func measuredResidentMemory() throws -> Int {
    let text = try contents(of: "/proc/\(process.processID)/smaps_rollup")
    let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("Rss:") })
    return try #require(Int(line.split(separator: " ")[1])) << 10
  }

  /// User and system time of all its threads.
  func processorTime() throws -> Duration {
    var clock = clockid_t()
    var time = timespec()
    let status = unsafe clock_getcpuclockid(pid_t(process.processID), &clock)
    try #require(status == 0)
    unsafe clock_gettime(clock, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  /// How much time it takes for something.
  func processorTime(of body: () async throws -> Void) async throws -> Duration {
    let before = try processorTime()
    try await body()
    return try processorTime() - before
  }

  private func contents(of path: String) throws -> String {
    let file = try unsafe #require(fopen(path, "r"))
    defer { unsafe fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    let count = unsafe fread(&buffer, 1, buffer.count, file)
    return String(decoding: buffer[..<count], as: UTF8.self)
  }
}

/// Asserts that something grows with its size and not with the square of it: four times as much may take up to eight times as
/// long, where a square would take sixteen. What both took is measured in CPU time, from a size that takes some.
func expectLinear(
  _ what: String, small: Duration, fourTimesAsMuch large: Duration, sourceLocation: SourceLocation = #_sourceLocation
) {
  // A tick of the clock and the costs of a connection are not what grows.
  let floor = Duration.milliseconds(5)
  #expect(
    large < (small + floor) * 8, "\(what): \(small), and \(large) for four times as much",
    sourceLocation: sourceLocation)
}
