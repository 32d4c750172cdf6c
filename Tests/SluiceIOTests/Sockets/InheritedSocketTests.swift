import SluiceIO
import SluiceStreams
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

@Suite("Sockets that a process is started with", .timeLimit(.minutes(1)))
struct InheritedSocketTests {
  /// A socket as a parent makes it: it blocks, and is inherited.
  private func socket(_ kind: CInt = CInt(SOCK_STREAM.rawValue), listens: Bool = true) throws -> CInt {
    let descriptor = systemSocket(kind)
    guard listens else { return descriptor }
    let address = try #require(SocketAddress(numeric: "127.0.0.1", port: 0))
    unsafe #expect(address.withAddress { unsafe systemBind(descriptor, $0, address.length) } == 0)
    #expect(listen(descriptor, 8) == 0)
    return descriptor
  }

  @Test("one that listens gives connections, does not block any more, and is not inherited")
  func listening() async throws {
    let descriptor = try socket()
    let listener = try await SocketListener.adopt(descriptor)
    #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
    #expect(fcntl(descriptor, F_GETFL) & O_NONBLOCK != 0)
    #expect(listener.name == "127.0.0.1:\(listener.port)" && listener.port > 0)
    let client = try await TCP.connect("127.0.0.1", port: listener.port)
    let accepted = try #require(try await listener.read())
    try await client.write("hello")
    #expect(try await accepted.read() == "hello")
    for stream in [client, accepted] { stream.abort() }
    listener.cancel()
    #expect(try await listener.read() == nil)
    _ = try await UVLoop.shared.run { true }
    #expect(fcntl(descriptor, F_GETFD) == -1)
  }

  @Test("a connection that was accepted already is the only one, or is closed if nobody wants it")
  func connection() async throws {
    for isTaken in [true, false] {
      var ends: (CInt, CInt) = (-1, -1)
      unsafe withUnsafeMutableBytes(of: &ends) {
        unsafe _ = socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, $0.bindMemory(to: CInt.self).baseAddress)
      }
      let (ours, theirs) = ends
      let listener = try await SocketListener.adopt(ours)
      if isTaken {
        let accepted = try #require(try await listener.read())
        #expect(try await listener.read() == nil)
        try await accepted.write("x")
        try await accepted.close()
        accepted.cancel()
      } else {
        listener.cancel()
        #expect(try await listener.read() == nil)
      }
      var text = [UInt8](repeating: 0, count: 4)
      let expected = isTaken ? 1 : 0
      unsafe #expect(read(theirs, &text, 4) == expected)
      if isTaken { unsafe #expect(read(theirs, &text, 4) == 0) }
      close(theirs)
    }
  }

  @Test("what is no stream socket, or neither listens nor is connected, is an error")
  func errors() async throws {
    func code(_ descriptor: CInt) async -> String? {
      do { try await SocketListener.adopt(descriptor).cancel() } catch { return (error as? IOError)?.code }
      return nil
    }
    let file = unsafe open("/dev/null", O_RDONLY)
    #expect(await code(file) == "ENOTSOCK")
    #expect(close(file) == 0)
    #expect(await code(1_000_000) == "EBADF")
    #expect(try await code(socket(CInt(SOCK_DGRAM.rawValue), listens: false)) == "EPROTOTYPE")
    #expect(try await code(socket(listens: false)) == "EINVAL")
  }

  @Test("a Unix socket's file has the mode that was asked for, whatever the mask is; an abstract one has none")
  func permissions() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max)).sock"
    for mode: FilePermissions in [[.ownerRead, .ownerWrite], [.ownerReadWrite, .groupReadWrite, .otherReadWrite], []] {
      let listener = try await UnixSocket.listen(path, permissions: mode, owner: getuid(), group: getgid())
      var status = stat()
      unsafe #expect(lstat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == mode.rawValue)
      listener.cancel()
      _ = try await UVLoop.shared.run { true }
    }
    await #expect(throws: IOError.self) { try await UnixSocket.listen("@sluice-mode", permissions: []) }
    if getuid() != 0 {
      await #expect(throws: IOError.self) { try await UnixSocket.listen(path, owner: 0) }
      unsafe #expect(access(path, F_OK) != 0)
    }
  }
}

/// `socket(2)`, which the method of the same name would hide.
private func systemSocket(_ kind: CInt) -> CInt { socket(AF_INET, kind, 0) }
