import Sluice
import SluiceStreams

/// The endpoints of a connection, by their places on the command line.
enum Side: String, Sendable, CaseIterable {
  case source
  case target

  var other: Side { self == .source ? .target : .source }
}

/// Something that one endpoint gave: what is recorded, and played back.
enum PassageContent: Sendable {
  /// The connection is there.
  case opened
  case message(Message)
  /// Bytes as they were read, without a boundary that means something.
  case bytes(Bytes)
  /// It gives nothing more.
  case ended
  case failed(String)

  /// As it stands in a recording.
  var kind: String {
    switch self {
    case .opened: "open"
    case .message(let message): message.kind == .text ? "text" : "binary"
    case .bytes: "bytes"
    case .ended: "end"
    case .failed: "error"
    }
  }

  /// What was given; nil for what is said of the connection.
  var bytes: Bytes? {
    switch self {
    case .message(let message): message.bytes
    case .bytes(let bytes): bytes
    case .opened, .ended, .failed: nil
    }
  }
}

/// An element of a pipe that can be recorded.
protocol Recordable: Sendable {
  var passageContent: PassageContent { get }
}

extension Bytes: Recordable {
  var passageContent: PassageContent { .bytes(self) }
}

extension Message: Recordable {
  var passageContent: PassageContent { .message(self) }
}

/// A stream that writes down what it gives, before it gives it: what has reached the other side is in the recording. The file's pace is the stream's.
final class RecordedStream<Source: ReadableStream>: ReadableStream where Source.Output: Recordable {
  private let source: Source
  private let side: Side
  private let recording: ConnectionRecording

  init(_ source: Source, from side: Side, in recording: ConnectionRecording) {
    self.source = source
    self.side = side
    self.recording = recording
  }

  func read() async throws -> Source.Output? {
    let element: Source.Output?
    do { element = try await source.read() } catch {
      if !(error is CancellationError) { try await recording.end(side, .failed("\(error)")) }
      throw error
    }
    guard let element else {
      try await recording.end(side, .ended)
      return nil
    }
    do { try await recording.add(side, element.passageContent) } catch {
      source.cancel(error)
      throw error
    }
    return element
  }

  func cancel(_ reason: (any Error)?) { source.cancel(reason) }
}
