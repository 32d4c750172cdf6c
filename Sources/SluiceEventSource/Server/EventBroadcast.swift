import SluiceIO
import SluiceStreams

/// One stream of events for many clients: what is written to it goes to each, and is put into words once.
///
/// ```swift
/// let broadcast = EventBroadcast(whenSlow: .disconnect)
/// async let served: Void = EventSource.serve("http://127.0.0.1:8000/feed") { try await broadcast.serve($0) }
/// try await feed.map { ServerSentEvent($0) }.pipe(broadcast)
/// ```
public final class EventBroadcast: WritableStream, @unchecked Sendable {  // `members` is touched on the loop only
  public typealias Input = ServerSentEvent

  /// What happens to a client that has no room for an event.
  public enum SlowPolicy: Sendable, Hashable {
    /// All wait for it.
    case hold
    /// It misses the event.
    case drop
    /// It is cut; it comes back, and says what it has seen last.
    case disconnect
  }

  private let loop: UVLoop
  private let policy: SlowPolicy
  private var members: [ObjectIdentifier: EventStreamConnection] = [:]
  private var isClosed = false

  /// - Parameter loop: The loop of the clients' server.
  public init(whenSlow policy: SlowPolicy = .disconnect, on loop: UVLoop = .shared) {
    self.policy = policy
    self.loop = loop
  }

  /// Clients at this moment.
  public var count: Int {
    get async throws { try await loop.run { self.members.count } }
  }

  /// Lets a client take part until it leaves, or the broadcast is closed. For a server's handler.
  public func serve(_ connection: EventStreamConnection) async throws {
    let id = ObjectIdentifier(connection)
    try await loop.run {
      if self.isClosed { throw StreamError.closed }
      self.members[id] = connection
    }
    defer { loop.perform { self.members[id] = nil } }
    try await connection.waitUntilClosed()
  }

  /// Sends an event to all. Returns when it was given to each that it is for.
  /// - Throws: `EventFieldError`; `StreamError.closed`. That a client has left is no error.
  public func write(_ event: ServerSentEvent) async throws {
    var builder = BytesBuilder()
    try event.write(to: &builder)
    let text = builder.take()
    let slow = try await loop.run {
      if self.isClosed { throw StreamError.closed }
      return self.members.values.filter { !self.give(text, to: $0) }
    }
    for connection in slow { try? await connection.write(encoded: text) }
  }

  /// - Returns: false if the client has to be waited for.
  private func give(_ text: Bytes, to connection: EventStreamConnection) -> Bool {
    guard let hasRoom = try? connection.hasRoom() else { return true }
    if hasRoom {
      connection.send(encoded: text)
      return true
    }
    switch policy {
    case .hold: return false
    case .drop: break
    case .disconnect: connection.abort(StreamError.tooSlow(bufferedBytes: connection.queuedByteCount))
    }
    return true
  }

  /// Ends the streams of all clients.
  public func close() async throws {
    let members = try await loop.run {
      self.isClosed = true
      return Array(self.members.values)
    }
    for connection in members { try? await connection.close() }
  }

  public func abort(_ reason: any Error) {
    loop.perform {
      self.isClosed = true
      for connection in self.members.values { connection.abort(reason) }
    }
  }
}
