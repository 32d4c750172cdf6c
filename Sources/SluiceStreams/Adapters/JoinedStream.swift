/// A readable and a writable stream as one duplex stream.
///
/// ```swift
/// let terminal = JoinedStream(reading: StandardStream.input().lines, writing: StandardStream.output().behind(.lines))
/// ```
public struct JoinedStream<Source: ReadableStream, Sink: WritableStream>: DuplexStream {
  public typealias Output = Source.Output
  public typealias Input = Sink.Input

  let source: Source
  let sink: Sink
  public let endsAsOne: Bool
  public let endsWithReader: Bool

  /// - Parameters:
  ///   - endsAsOne: Whether closing the sink makes the source end: see `DuplexStream.endsAsOne`.
  ///   - endsWithReader: Whether a bridge ends as a whole when the sink's reader has gone: see `DuplexStream.endsWithReader`.
  public init(reading source: Source, writing sink: Sink, endsAsOne: Bool = false, endsWithReader: Bool = false) {
    self.source = source
    self.sink = sink
    self.endsAsOne = endsAsOne
    self.endsWithReader = endsWithReader
  }

  public func read() async throws -> Source.Output? { try await source.read() }
  public func cancel(_ reason: (any Error)?) { source.cancel(reason) }
  public func write(_ element: Sink.Input) async throws { try await sink.write(element) }
  public func close() async throws { try await sink.close() }
  public func close(after failure: any Error) async throws { try await sink.close(after: failure) }
  public func abort(_ reason: any Error) { sink.abort(reason) }
}

/// A stream whose halves are streams of their own: a pipe connects those, so that it finds the gear they have.
package protocol SplitReadable<Output>: ReadableStream {
  var readableHalf: any ReadableStream<Output> { get }
}

package protocol SplitWritable<Input>: WritableStream {
  var writableHalf: any WritableStream<Input> { get }
}

extension JoinedStream: SelfFailing {
  package var hasFailed: Bool { (sink as? any SelfFailing)?.hasFailed ?? false }
}

extension JoinedStream: SplitReadable, SplitWritable {
  package var readableHalf: any ReadableStream<Source.Output> { source }
  package var writableHalf: any WritableStream<Sink.Input> { sink }
}
