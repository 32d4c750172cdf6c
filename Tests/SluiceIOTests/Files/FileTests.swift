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
