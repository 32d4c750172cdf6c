import SluiceEventSource
import SluiceStreams
import SluiceTopics
import SluiceWebSocket
import SluiceWebSocketProtocol

extension TopicReader {
  /// Sends the topic's messages to a WebSocket, framed once for all who read them.
  ///
  /// A client that is slow holds nobody: what it has no room for is read again from the ring, or the log.
  /// - Throws: As every pipe; `TopicError.positionLost`, behind which the client is told with 1011.
  public func pipe(_ socket: WebSocket, options: PipeOptions = PipeOptions()) async throws {
    try await pipe(socket, as: { Message($0) }, options: options)
  }

  /// As `pipe`, with what `form` makes of each message, which must be the same for all who read the topic in this process: it is made once.
  package func pipe(
    _ socket: WebSocket, as form: @escaping @Sendable (TopicMessage) -> Message, options: PipeOptions = PipeOptions()
  ) async throws {
    let outcome = await deliver(to: socket) { WebSocket.prepare(form($0)) }
    try await settle(outcome, self, socket, options)
  }

  /// Sends the topic's messages to an event stream, put into words once for all who read them, with their positions as ids. The client has a position
  /// before the first event comes, so that it can come back at any time.
  /// - Throws: As every pipe; `TopicError.positionLost`, behind which the stream is cut.
  public func pipe(_ events: EventStreamConnection, options: PipeOptions = PipeOptions()) async throws {
    let outcome = await deliver(to: events, first: { try events.push(id: self.position.description) }, Self.prepared)
    try await settle(outcome, self, events, options)
  }

  private static func prepared(_ message: TopicMessage) throws -> PreparedEvent {
    var event = ServerSentEvent(message)
    do { return try EventStreamConnection.prepare(event) } catch {
      // A type that is none, which another program has stored.
      event.event = nil
      return try EventStreamConnection.prepare(event)
    }
  }

  /// Messages that are looked at together.
  private static var batch: Int { 64 }

  private func deliver<Member: BroadcastMember>(
    to member: Member, first: @escaping @Sendable () throws -> Void = {},
    _ form: @escaping @Sendable (TopicMessage) throws -> Member.Prepared
  ) async -> PipeOutcome {
    await withTaskExecutorPreference(member.loop) {
      let watch = EndWatch(member, self)
      member.attachBroadcast(watch)
      defer { member.detachBroadcast(watch) }
      let key = LiveGroupKey(loop: member.loop, kind: Member.self)
      let seat = Seat(group: enterGroup(key) { LiveMembers(member.loop, form) }, reader: self, member: member)
      defer { leaveGroup(key) }
      // What can be read again is not queued for who does not take it: the log is the buffer.
      let queue = member as? any QueueLimiting
      let limit = queue?.limitQueue(to: 1)
      defer { if let limit, limit > 1 { _ = queue?.limitQueue(to: limit) } }
      do {
        _ = try member.hasRoomForBroadcast()
        try first()
      } catch { return .sinkFailed(error) }
      while true {
        switch await deliverOnce(to: member, seat, form) {
        case .some(let outcome): return outcome
        case nil: break
        }
      }
    }
  }

  /// - Returns: nil if it goes on.
  private nonisolated(nonsending) func deliverOnce<Member: BroadcastMember>(
    to member: Member, _ seat: Seat<Member>, _ form: @Sendable (TopicMessage) throws -> Member.Prepared
  ) async -> PipeOutcome? {
    let isFull: Bool
    do {
      guard let messages = try await available(maxCount: Self.batch, in: seat) else {
        return Task.isCancelled ? .cancelled : .sourceEnded
      }
      do { isFull = try push(messages, to: member, form) } catch { return .sinkFailed(error) }
    } catch let ended as SinkEnded {
      return .sinkFailed(ended.error)
    } catch {
      return Task.isCancelled && error is CancellationError ? .cancelled : .sourceFailed(error)
    }
    guard isFull else { return nil }
    // Nothing is held for one who does not read.
    dropHeld()
    let waiter = LoopWaiter()
    member.attachBroadcast(waiter)
    // There may be room again without a word of it.
    if (try? member.hasRoomForBroadcast()) != false { waiter.wake() }
    let isCancelled = await waiter.waitOrCancel(on: member.loop)
    member.detachBroadcast(waiter)
    return isCancelled ? .cancelled : nil
  }

  /// - Returns: whether there was no room for all.
  private func push<Member: BroadcastMember>(
    _ messages: ArraySlice<TopicMessage>, to member: Member, _ form: @Sendable (TopicMessage) throws -> Member.Prepared
  ) throws -> Bool {
    var gathered = 0
    // See `LiveMembers`.
    defer { member.flush() }
    for message in messages {
      guard try member.hasRoom(gathered: &gathered) else { return true }
      try member.push(prepared: try message.shared(form))
      didTake(message)
      gathered += message.byteCount
    }
    return false
  }
}

/// A connection has ended that messages are waited for.
private struct SinkEnded: Error {
  let error: any Error
}

/// Ends the wait for messages when the connection that they are for has ended: not every server cancels a handler that reads nothing then.
private final class EndWatch: SingleWaker, Sendable {
  private let member: any BroadcastMember
  private let reader: TopicReader

  init(_ member: any BroadcastMember, _ reader: TopicReader) {
    self.member = member
    self.reader = reader
  }

  func wake() {
    do { _ = try member.hasRoomForBroadcast() } catch { reader.interrupt(SinkEnded(error: error)) }
  }
}

/// Connects a WebSocket with a topic: what it sends is appended, and what is appended it gets, its own messages too.
///
/// ```swift
/// try await WebSocket.serve("ws://0.0.0.0:8000/rooms") { ws in
///   try await bridge(ws, room.joined(from: ws.resumePosition ?? .last(50)))
/// }
/// ```
/// Returns when the WebSocket has ended and all that it sent is stored.
/// - Throws: What either direction fails with first.
public func bridge(_ socket: WebSocket, _ topic: JoinedTopic) async throws {
  try await bridge(socket, topic) { Message($0) }
}

/// - Parameter form: See `TopicReader.pipe`.
package func bridge(
  _ socket: WebSocket, _ topic: JoinedTopic, as form: @escaping @Sendable (TopicMessage) -> Message
) async throws {
  guard let reader = topic.readableHalf as? TopicReader, let writer = topic.writableHalf as? TopicWriter else { return }
  let failure = await withTaskGroup(of: Outcome.self) { group in
    group.addTask {
      do { try await socket.pipe(MessageSink(writer: writer)) } catch { return .toTopic(error) }
      return .toTopic(nil)
    }
    group.addTask {
      do { try await reader.pipe(socket, as: form) } catch { return .toSocket(error) }
      return .toSocket(nil)
    }
    guard let first = await group.next() else { return (any Error)?.none }
    if case .toTopic(let failure) = first {
      if let failure { try? await socket.close(after: failure) }
      reader.cancel(failure)
    }
    let second = await group.next()
    return first.failure ?? (Task.isCancelled ? CancellationError() : second?.failureOfTopic)
  }
  if let failure { throw failure }
}

private enum Outcome {
  case toTopic((any Error)?)
  case toSocket((any Error)?)

  var failure: (any Error)? {
    switch self {
    case .toTopic(let failure): failure
    // A socket that has closed takes nothing more: that is its end.
    case .toSocket(let failure): if case StreamError.closed? = failure as? StreamError { nil } else { failure }
    }
  }

  /// Of the direction that ended last: the socket's own end is none.
  var failureOfTopic: (any Error)? {
    if case .toTopic(let failure) = self { failure } else { nil }
  }
}

/// A topic as a sink for what a WebSocket sends.
private struct MessageSink: WritableStream {
  let writer: TopicWriter

  nonisolated(nonsending) func write(_ message: Message) async throws {
    try await writer.write(TopicContent(message))
  }

  func close() async throws { try await writer.close() }
  func abort(_ reason: any Error) { writer.abort(reason) }
}
