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

@Suite("Named pipes and devices", .timeLimit(.minutes(1)))
struct NamedPipeTests {
  private func withPipes(_ count: Int = 1, _ body: ([FilePath]) async throws -> Void) async throws {
    let paths = (0..<count).map { _ in "/tmp/sluice-test-\(UInt64.random(in: 0 ... .max))" }
    for path in paths { try #require(unsafe mkfifo(path, 0o600) == 0) }
    defer { for path in paths { unsafe unlink(path) } }
    try await body(paths.map { FilePath($0) })
  }

  @Test("reading begins with the first writer, and ends with the last")
  func reading() async throws {
    try await withPipes { paths in
      let pipe = try await File.open(paths[0])
      let reading = Task { try await pipe.collect(limit: 100) }
      try await Task.sleep(for: .milliseconds(30))
      let (one, two) = unsafe (open(paths[0].string, O_WRONLY), open(paths[0].string, O_WRONLY))
      #expect(unsafe write(one, "one", 3) == 3)
      close(one)
      try await Task.sleep(for: .milliseconds(10))
      #expect(unsafe write(two, "two", 3) == 3)
      close(two)
      #expect(try await reading.value == "onetwo")
    }
  }

  @Test("a writer that writes nothing is an end too")
  func emptyWriter() async throws {
    try await withPipes { paths in
      let pipe = try await File.open(paths[0])
      let reading = Task { try await pipe.read() }
      try await Task.sleep(for: .milliseconds(10))
      close(unsafe open(paths[0].string, O_WRONLY))
      #expect(try await reading.value == nil)
    }
  }

  @Test("a read that waits can be cancelled, and the pipe closed")
  func cancelledRead() async throws {
    try await withPipes { paths in
      let pipe = try await File.open(paths[0])
      let reading = Task { try await pipe.read() }
      try await Task.sleep(for: .milliseconds(10))
      reading.cancel()
      await #expect(throws: CancellationError.self) { try await reading.value }
      pipe.cancel()
      #expect(try await pipe.read() == nil)
      // Nobody reads it any more.
      #expect(unsafe open(paths[0].string, O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO)
    }
  }

  @Test("opening one to be written waits for its reader, for whom everything is written")
  func writing() async throws {
    try await withPipes { paths in
      let opening = Task { try await File.append(paths[0]) }
      try await Task.sleep(for: .milliseconds(30))
      let reader = unsafe open(paths[0].string, O_RDONLY | O_NONBLOCK)
      let pipe = try await opening.value
      let size = 200_000
      let writing = Task {
        try await pipe.write(Bytes([UInt8](repeating: 0x41, count: size)))
        try await pipe.close()
      }
      var count = 0
      var buffer = [UInt8](repeating: 0, count: 64 << 10)
      while count < size {
        let read = unsafe Glibc.read(reader, &buffer, buffer.count)
        if read > 0 { count += read } else { try await Task.sleep(for: .milliseconds(1)) }
      }
      try await writing.value
      #expect(unsafe read(reader, &buffer, 1) == 0)
      close(reader)
    }
  }

  @Test("waiting for a reader can be cancelled")
  func cancelledOpening() async throws {
    try await withPipes { paths in
      let opening = Task { try await File.create(paths[0]) }
      try await Task.sleep(for: .milliseconds(30))
      opening.cancel()
      await #expect(throws: CancellationError.self) { try await opening.value }
    }
  }

  @Test("whose reader has gone takes no more")
  func readerGone() async throws {
    try await withPipes { paths in
      let reader = unsafe open(paths[0].string, O_RDONLY | O_NONBLOCK)
      let pipe = try await File.append(paths[0])
      close(reader)
      await #expect(throws: StreamError.closed) { while true { try await pipe.write("x") } }
    }
  }

  @Test("ten that wait for their writers, and ten for their readers, occupy no thread: other files are read")
  func manyWaiting() async throws {
    try await withPipes(20) { paths in
      var pipes: [File] = []
      for path in paths[..<10] { pipes.append(try await File.open(path)) }
      let readings = pipes.map { pipe in Task { try await pipe.read() } }
      let openings = paths[10...].map { path in Task { try await File.append(path) } }
      try await Task.sleep(for: .milliseconds(50))
      #expect(try await File.open("/etc/passwd").collect(limit: 1 << 20).count > 0)
      for opening in openings { opening.cancel() }
      for opening in openings { await #expect(throws: CancellationError.self) { try await opening.value } }
      for pipe in pipes { pipe.cancel() }
      for reading in readings { #expect(try await reading.value == nil) }
    }
  }

  @Test("devices that nobody has to wait for are read and written as files")
  func devices() async throws {
    let zero = try await File.open("/dev/zero")
    let some = try await zero.read()
    #expect(some?.first == 0)
    zero.cancel()
    #expect(try await File.open("/dev/null").read() == nil)
    let null = try await File.append("/dev/null")
    try await null.write("x")
    try await null.close()
  }

  @Test("a terminal is waited for, and does not become ours")
  func terminal() async throws {
    let pair = try Pseudoterminal()
    let parent = pair.controllingEnd
    defer { close(parent) }
    let terminal = try await File.update(FilePath(pair.path))
    let reading = Task { try await terminal.read() }
    try await Task.sleep(for: .milliseconds(10))
    #expect(unsafe write(parent, "line\n", 5) == 5)
    #expect(try await reading.value == "line\n")
    try await terminal.write("x")
    terminal.abort(StreamError.aborted)
  }
}
