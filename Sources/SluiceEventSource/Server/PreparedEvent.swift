import SluiceStreams
import SluiceZlib
import Synchronization

/// An event as all clients of a broadcast can have it: put into words once, and compressed once if one of them takes that.
public final class PreparedEvent: Sendable {
  package let text: Bytes
  private let compressed = Mutex<DeflatedPiece?>(nil)

  init(_ event: ServerSentEvent) throws {
    var builder = BytesBuilder()
    try event.write(to: &builder)
    text = builder.take()
  }

  /// For streams in gzip.
  var deflated: DeflatedPiece {
    compressed.withLock { compressed in
      if let compressed { return compressed }
      let piece = DeflatedPiece(text)
      compressed = piece
      return piece
    }
  }
}
