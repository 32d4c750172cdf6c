import SluiceStreams

extension WebSocket {
  /// Waits until the connection is over: closed by either side, or lost; or until the calling task is cancelled. `closeStatus` tells how the peer
  /// has closed.
  ///
  /// What comes meanwhile is not read: it stays for who reads it, up to the number of bytes of the write watermark, and the peer waits then.
  ///
  /// ```swift
  /// try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
  ///   let feed = Task { for await tick in ticks { try await ws.send(tick) } }
  ///   await ws.waitUntilClosed()
  ///   feed.cancel()
  /// }
  /// ```
  public func waitUntilClosed() async {
    await withTaskExecutorPreference(loop) { @concurrent () async in await self.waitUntilClosedOnLoop() }
  }

  private nonisolated(nonsending) func waitUntilClosedOnLoop() async {
    if isOver {
      incoming.isEndTold = true
      return
    }
    let waiter = LoopWaiter()
    controls.closeWaiters.append(waiter)
    readAheadIfNeeded()
    _ = await waiter.waitOrCancel(on: loop)
    heldControls?.closeWaiters.removeAll { $0 === waiter }
  }

  private var isOver: Bool {
    switch closing {
    case .none, .waiting: false
    case .lingering, .done: true
    }
  }

  func wakeCloseWaiters() {
    guard let heldControls, !heldControls.closeWaiters.isEmpty else { return }
    incoming.isEndTold = true
    for waiter in heldControls.closeWaiters { waiter.wake() }
  }
}
