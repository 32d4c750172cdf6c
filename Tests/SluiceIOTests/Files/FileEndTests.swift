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

@Suite("The end of files", .timeLimit(.minutes(1)))
struct FileEndTests {
  /// A pipe whose writing end has a thread wait, on the thread pool, and its reading end, which does not block.
  private func withPipe(_ body: (PooledFile, CInt) async throws -> Void) async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    try #require(unsafe mkfifo(path, 0o600) == 0)
    defer { _ = unsafe unlink(path) }
    let reader = unsafe open(path, O_RDONLY | O_NONBLOCK)
    try #require(reader >= 0)
    defer { close(reader) }
    let writer = unsafe open(path, O_WRONLY)
    try #require(writer >= 0)
    try await body(
      PooledFile(descriptor: writer, owned: true, name: path, direction: .write, on: .shared), reader)
  }

  /// Everything until the writing end is closed.
  /// - Parameter minimum: Before this there is no end, as there is none before a writer has come.
  private func readAll(_ reader: CInt, atLeast minimum: Int = 0) async throws -> [UInt8] {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = unsafe read(reader, &buffer, buffer.count)
      if count == 0, all.count >= minimum { return all }
      if count > 0 { all += buffer[..<count] } else { try await Task.sleep(for: .milliseconds(2)) }
    }
  }

  @Test("an abort leaves a write that is under way its bytes, and the file is closed behind it")
  func abortedWrite() async throws {
    try await withPipe { file, reader in
      let size = 50_000
      // The pipe takes 64 KiB: the second write waits in the thread pool.
      for _ in 0..<8 { try await file.write(Bytes([UInt8](repeating: 0x41, count: size))) }
      try await Task.sleep(for: .milliseconds(50))
      file.abort(StreamError.aborted)
      let others = try await UVLoop.shared.run {
        (0..<64).map { _ in Bytes([UInt8](repeating: 0x42, count: size)) }
      }
      let bytes = try await readAll(reader)
      #expect(bytes.count > size)
      #expect(bytes.allSatisfy { $0 == 0x41 })
      withExtendedLifetime((file, others)) {}
    }
  }

  @Test("a write that succeeds after an abort counts for nothing")
  func queueBehindAbort() async throws {
    try await withPipe { file, reader in
      try await file.write(Bytes([UInt8](repeating: 0x41, count: 100_000)))
      file.abort(StreamError.aborted)
      _ = try await readAll(reader)
      #expect(try await UVLoop.shared.run { file.queuedByteCount } == 0)
      await #expect(throws: StreamError.aborted) { try await file.write("late") }
    }
  }

  @Test("close throws what the system says of it")
  func failedClose() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    let original = unsafe open(path, O_WRONLY | O_CREAT, 0o600)
    defer { _ = unsafe unlink(path) }
    // A number that nobody else gets meanwhile.
    let descriptor = fcntl(original, F_DUPFD, 900)
    try #require(descriptor >= 900)
    close(original)
    let file = try await UVLoop.shared.run {
      PooledFile(descriptor: descriptor, owned: true, name: path, direction: .write, on: .shared)
    }
    try await file.write("x")
    try await UVLoop.shared.run { try #require(close(descriptor) == 0) }
    do {
      try await file.close()
      Issue.record("closed well")
    } catch let error as IOError {
      #expect(error.code == "EBADF")
    }
  }

  @Test("a file that is dropped is closed, behind what was written")
  func dropped() async throws {
    let path = "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))"
    try #require(unsafe mkfifo(path, 0o600) == 0)
    defer { _ = unsafe unlink(path) }
    let reader = unsafe open(path, O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    do {
      let file = try await File.append(FilePath(path))
      try await file.write("x")
    }
    #expect(try await readAll(reader, atLeast: 1) == [0x78])
  }
}
