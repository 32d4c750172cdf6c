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
