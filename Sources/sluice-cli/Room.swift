import Sluice
import SluiceStreams
import SluiceWebSocket
import Synchronization

/// Connections that hear the same: what one of them says, or what the endpoint gives that they share.
final class Room: Sendable {
  private let sockets: WebSocketBroadcast
  private let streams: Broadcast<StreamMember>
  /// Of members that are streams of bytes.
  private let framing: MessageFraming
  /// What counts that which members that are streams of bytes are told. WebSockets count it themselves.
  private let metrics: Metrics?
  /// Who gets what members say; nil if all of them do.
  private let listener: (any WritableStream<Message>)?
  private let turn = WriteTurn()
  private let onEnd: @Sendable () -> Void

  init(
    _ slow: SlowConnection, framing: MessageFraming, _ metrics: Metrics?,
    listener: (any WritableStream<Message>)? = nil,
    onEnd: @escaping @Sendable () -> Void = {}
  ) {
    sockets = Broadcast(whenSlow: slow.policy(of: WebSocket.self))
    streams = Broadcast(whenSlow: slow.policy(of: StreamMember.self))
    self.framing = framing
    self.metrics = metrics
    self.listener = listener
    self.onEnd = onEnd
  }

  deinit { onEnd() }

  /// Whether members hear each other, and not something that they share.
  var isBetweenMembers: Bool { listener == nil }

  /// What a member says.
  func say(_ message: Message) async throws {
    guard let listener else { return try await tell(message) }
    try await turn.beginWhenFree()
    defer { turn.end() }
    // One that has had enough may still have something to tell.
    do { try await listener.write(message) } catch StreamError.closed {}
  }

  /// Gives all members a message.
  func tell(_ message: Message) async throws {
    if sockets.count > 0 { try await sockets.write(message) }
    if streams.count > 0 { try await streams.write(message, as: framing) }
  }

  /// Lets a connection hear while `body` runs.
  func serve(_ socket: WebSocket, _ body: () async throws -> Void) async throws {
    try await sockets.serve(socket, body)
  }

  func serve(_ stream: any PolledWritableStream<Bytes>, _ body: () async throws -> Void) async throws {
    try await streams.serve(StreamMember(stream, metrics), body)
  }

  /// Ends the connections of all members, behind what they were told.
  func close() async throws {
    try await sockets.close()
    try await streams.close()
  }

  func abort(_ reason: any Error) {
    sockets.abort(reason)
    streams.abort(reason)
  }
}

/// A stream of bytes as a member of a broadcast.
final class StreamMember: BroadcastMember {
  typealias Input = Bytes

  private let stream: any PolledWritableStream<Bytes>
  private let metrics: Metrics?

  init(_ stream: any PolledWritableStream<Bytes>, _ metrics: Metrics?) {
    self.stream = stream
    self.metrics = metrics
  }

  static func prepare(_ bytes: Bytes) -> Bytes { bytes.compacted() }

  var loop: any Loop { stream.loop }
  func push(prepared bytes: Bytes) throws {
    metrics?.didSend(bytes.count, isMessage: true)
    try stream.push(bytes)
  }
  func didMiss() { metrics?.didDrop() }
  func hasRoom() throws -> Bool { try stream.hasRoom() }
  func push(_ bytes: consuming Bytes) throws { try stream.push(bytes) }
  var queuedByteCount: Int { stream.queuedByteCount }
  func flush() { stream.flush() }
  func attachWriter(_ waker: any Waker) throws { try stream.attachWriter(waker) }
  func detachWriter() { stream.detachWriter() }
  // Nobody but the broadcast writes to it, and that waits for one member at a time.
  func attachBroadcast(_ waker: any Waker) { try? stream.attachWriter(waker) }
  func detachBroadcast(_ waker: any Waker) { stream.detachWriter() }
  func abort(_ reason: any Error) { stream.abort(reason) }

  func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    stream.closeWhenFlushed(completion)
  }

  func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    stream.closeWhenFlushed(after: failure, completion)
  }
}

/// The rooms of a server, by name: each exists as long as somebody is in it.
final class Rooms: Sendable {
  private struct Place {
    weak var room: Room?
  }
  private let places = Mutex<[String: Place]>([:])
  private let slow: SlowConnection
  private let framing: MessageFraming
  private let metrics: Metrics?

  init(_ slow: SlowConnection, framing: MessageFraming, _ metrics: Metrics?) {
    self.slow = slow
    self.framing = framing
    self.metrics = metrics
  }

  func enter(_ name: String) -> Room {
    places.withLock { places in
      if let room = places[name]?.room { return room }
      let room = Room(slow, framing: framing, metrics) { [weak self] in self?.leave(name) }
      places[name] = Place(room: room)
      return room
    }
  }

  /// The last one has gone; another room of the name may have been made since.
  private func leave(_ name: String) {
    places.withLock { places in
      if let place = places[name], place.room == nil { places[name] = nil }
    }
  }
}
