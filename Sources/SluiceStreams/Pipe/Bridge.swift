import Synchronization

/// What a bridge does at an end in one direction, where the stream on the other side can't end one half alone: a WebSocket.
public enum BridgeEndPolicy: String, Hashable, Sendable, CaseIterable {
  /// Close now and keep reading to the peer's Close. The Close travels behind the data, so that an echo still answers everything.
  case close
  /// Hold our Close until the other direction has ended, for peers that answer after a while.
  case `defer`
  /// End both directions at once.
  case closeBoth = "close-both"
}

/// How a bridge ends.
public struct BridgeOptions: Hashable, Sendable {
  /// What happens at an end. A stream that can half-close does so under `close` and `defer` alike. Default: `close`.
  public var onEnd = BridgeEndPolicy.close
  /// How long one direction may go on in silence when the other has ended; nil is for ever. Default: 30 seconds.
  public var halfCloseTimeout: Duration? = .seconds(30)

  public init(onEnd: BridgeEndPolicy = .close, halfCloseTimeout: Duration? = .seconds(30)) {
    self.onEnd = onEnd
    self.halfCloseTimeout = halfCloseTimeout
  }
}

/// Connects two duplex streams: what either gives is written to the other.
///
/// An end in one direction half-closes that side, and the other direction goes on. Returns when both directions have ended.
/// - Throws: the first error, after all four halves were aborted; `StreamError.halfCloseTimeout`. A sink that was closed by
///   its own side, or whose reader has gone, is no error but the end of its direction.
///
/// ```swift
/// try await bridge(StandardIO(), TCP.connect("127.0.0.1", port: 7))
/// ```
public func bridge<A: DuplexStream, B: DuplexStream>(
  _ a: A, _ b: B, options: BridgeOptions = BridgeOptions()
) async throws where A.Output == B.Input, B.Output == A.Input {
  let activity = PipeActivity()
  let failure = FirstFailure()
  do {
    try await withThrowingTaskGroup(of: Void.self) { directions in
      directions.addTask { try await direction(from: a, to: b, options, activity, failure) }
      directions.addTask { try await direction(from: b, to: a, options, activity, failure) }
      try await directions.next()
      switch options.onEnd {
      case .closeBoth:
        a.cancel(nil)
        b.cancel(nil)
      case .close, .defer: break
      }
      let limit = options.halfCloseTimeout
      if let limit {
        directions.addTask { try await throwAfterSilence(of: limit, activity, failure) }
      }
      try await directions.next()
      directions.cancelAll()
    }
    // What `defer` held back; closing what is closed is success.
    if options.onEnd == .defer {
      try await a.close()
      try await b.close()
    }
  } catch {
    let error = failure.noting(error)
    for stream in [a, b] as [any DuplexStream] {
      stream.abort(error)
      stream.cancel(error)
    }
    throw error
  }
}

private func direction<Source: DuplexStream, Sink: DuplexStream>(
  from source: Source, to sink: Sink, _ options: BridgeOptions, _ activity: PipeActivity, _ failure: FirstFailure
) async throws where Source.Output == Sink.Input {
  do { try await move(from: source, to: sink, options, activity) } catch {
    // Noted first: the abort fails the other direction, of which may be heard sooner.
    let error = failure.noting(error)
    sink.abort(error)
    throw error
  }
}

private func move<Source: DuplexStream, Sink: DuplexStream>(
  from source: Source, to sink: Sink, _ options: BridgeOptions, _ activity: PipeActivity
) async throws where Source.Output == Sink.Input {
  var pipe = PipeOptions(preventClose: options.onEnd == .defer && sink.endsAsOne, preventAbort: true)
  pipe.activity = activity
  // What ends in both directions at once can't be cancelled in one, where the other may go on.
  let isReadOn = source.endsAsOne && !sink.endsAsOne
  pipe.preventCancel = isReadOn
  do {
    try await source.pipe(sink, options: pipe)
  } catch StreamError.closed {
    // The pipe has cancelled the source; or it is read to its end, for nobody.
    if isReadOn { while try await source.read() != nil {} }
  }
  // What can't half-close has ended in both directions: nothing can be written to it any more.
  if source.endsAsOne { sink.cancel(nil) }
}

/// Why a bridge fails: what went wrong first, and not what that has brought about.
private final class FirstFailure: Sendable {
  private let first = Mutex<(any Error)?>(nil)

  /// - Returns: the failure that was noted first, which may be this one.
  func noting(_ error: any Error) -> any Error {
    first.withLock { first in
      if let first { return first }
      first = error
      return error
    }
  }
}

/// Throws once nothing has moved for the time.
private func throwAfterSilence(of limit: Duration, _ activity: PipeActivity, _ failure: FirstFailure) async throws {
  var last = activity.count
  while true {
    try await Task.sleep(for: limit)
    let now = activity.count
    // That its task is cancelled when both directions have ended is no failure.
    if now == last { throw failure.noting(StreamError.halfCloseTimeout(limit)) }
    last = now
  }
}
