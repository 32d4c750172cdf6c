/// A readable stream whose end has a reason that another stream of its kind can repeat: the code and reason of a WebSocket's Close.
package protocol EndReasonGiving {
  /// On the stream's loop, or from anywhere if it has none. nil while it has not ended, or if there is nothing to repeat.
  var endReason: (any Sendable)? { get async }
}

/// A writable stream that can end for the reason that another stream of its kind has ended for.
package protocol EndReasonRepeating: WritableStream {
  /// As `close`, for this reason; as `close` itself if it is not one of this kind of streams.
  func close(repeating reason: any Sendable) async throws
}

extension WritableStream {
  /// Closes at the end of a source, for the reason of that end where both know it.
  package func close(atEndOf source: any ReadableStream) async throws {
    guard let sink = self as? any EndReasonRepeating, let source = source as? any EndReasonGiving,
      let reason = await source.endReason
    else { return try await close() }
    try await sink.close(repeating: reason)
  }
}

// What stands between the two passes it on.

extension TransformedStream: EndReasonGiving {
  package var endReason: (any Sendable)? { get async { await (source as? any EndReasonGiving)?.endReason } }
}

extension AnyReadable: EndReasonGiving {
  package var endReason: (any Sendable)? { get async { await (base as? any EndReasonGiving)?.endReason } }
}

extension JoinedStream: EndReasonGiving, EndReasonRepeating {
  package var endReason: (any Sendable)? { get async { await (source as? any EndReasonGiving)?.endReason } }

  package func close(repeating reason: any Sendable) async throws {
    guard let sink = sink as? any EndReasonRepeating else { return try await close() }
    try await sink.close(repeating: reason)
  }
}

extension AnyWritable: EndReasonRepeating {
  package func close(repeating reason: any Sendable) async throws {
    guard let sink = base as? any EndReasonRepeating else { return try await close() }
    try await sink.close(repeating: reason)
  }
}
