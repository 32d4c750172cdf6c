import SluiceStreams

/// One stream of events for many clients: what is written to it goes to each, and is put into words, and compressed, once.
///
/// ```swift
/// let broadcast = EventBroadcast(whenSlow: .disconnect)
/// async let served: Void = EventSource.serve("http://127.0.0.1:8000/feed") { try await broadcast.serve($0) }
/// try await feed.map { ServerSentEvent($0) }.pipe(broadcast)
/// ```
/// A client that is cut comes back, and says what it has seen last.
public typealias EventBroadcast = Broadcast<EventStreamConnection>

extension EventStreamConnection: BroadcastMember {
  public static func prepare(_ event: ServerSentEvent) throws -> PreparedEvent { try PreparedEvent(event) }

  public func push(prepared event: PreparedEvent) throws {
    try checkWritable()
    append(event)
    noteSent(byteCount: event.text.count)
  }

  public func didMiss() { noteMissed() }
}

extension Broadcast where Member == EventStreamConnection {
  /// Sends an event to all who listen: see `write`.
  ///
  /// ```swift
  /// try await broadcast.send("42.7", event: "price")
  /// ```
  public func send(_ data: String, event: String? = nil, id: String? = nil) async throws {
    try await write(ServerSentEvent(data, event: event, id: id))
  }

  /// Lets a client take part until it leaves, or the broadcast is closed. For a server's handler.
  public func serve(_ connection: EventStreamConnection) async throws {
    try await serve(connection) { try await connection.waitUntilClosed() }
  }
}
