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

@Suite("Unix sockets", .timeLimit(.minutes(1)))
struct UnixSocketTests {
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
}
