/// The last part of a connection's life: nobody reads it any more, its own half has ended well, and what the peer still sends is read and dropped.
///
/// A system answers what nobody reads with a reset, which destroys what the peer has not got yet, and tells it of a failure where all went well. This
/// lasts until the peer has ended too, or has taken nothing more for `time`; what the system still holds then is delivered by it. On the
/// connection's loop only.
package final class Lingering: @unchecked Sendable {  // touched on its loop only
  /// How long the peer may take nothing: 2 seconds.
  package static let time = Duration.seconds(2)
  /// For how long the peer may take nothing of what a connection that is left has still to send: 10 seconds.
  package static let sendingTime = Duration.seconds(10)

  private var watch: StallWatch?
  private var waiting: [@Sendable () -> Void] = []

  /// - Parameter isOver: Is called once, unless `end` was called before.
  package init(_ stream: any PolledWritableStream, isOver: @escaping @Sendable () -> Void) {
    watch = StallWatch(stream, limit: Self.time, didStall: isOver)
  }

  package func whenEnded(_ completion: @escaping @Sendable () -> Void) { waiting.append(completion) }

  package func end() {
    watch?.stop()
    watch = nil
    let waiting = waiting
    self.waiting = []
    for completion in waiting { completion() }
  }
}

/// A connection that lingers by itself, once it is cancelled and its own half has ended well.
package protocol LingeringConnection: PolledDuplexStream {
  /// Calls `completion` when it does not linger any more, or at once if it does not. On the loop only.
  func whenGone(_ completion: @escaping @Sendable () -> Void)
}

extension PolledDuplexStream {
  /// Ends both halves so that the peer gets what was written: writes for as long as the peer takes it, ends this half, and waits while the connection
  /// lingers: see `Lingering`. A task that is cancelled does not wait. On the loop only.
  /// - Parameters:
  ///   - limit: For how long the peer may take nothing before the stream is aborted.
  ///   - error: What it is aborted with.
  package func closeLingering(stallTimeout limit: Duration, orAbort error: any Error) async {
    do {
      try await whilePeerTakes(within: limit, orAbort: error) { try await close() }
    } catch {
      return abort(error)
    }
    if let connection = self as? any LingeringConnection {
      cancel(nil)
      let waiter = LoopWaiter()
      connection.whenGone { waiter.wake() }
      _ = await waiter.waitOrCancel(on: loop)
      return
    }
    // What this stands on may not linger.
    let watch = StallWatch(self, limit: Lingering.time) { self.cancel(nil) }
    defer { watch.stop() }
    // What the peer ends with is of no interest any more.
    do { while try await read() != nil {} } catch {}
    cancel(nil)
  }
}
