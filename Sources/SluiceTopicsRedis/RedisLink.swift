#if Redis
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// A connection that is made when it is needed, and again when it was lost.
  final class RedisLink: Sendable {
    private enum State {
      case none
      case connecting(SharedResult<RedisConnection>)
      case connected(RedisConnection)
      case closed
    }
    private let state = Mutex(State.none)
    private let server: RedisServer
    private let observer: (any TopicObserver)?

    init(_ server: RedisServer, _ observer: (any TopicObserver)?) {
      self.server = server
      self.observer = observer
    }

    /// - Throws: `TopicError.unavailable`, `.refused`, `.closed`.
    func connection() async throws -> RedisConnection {
      if case .connected(let connection) = state.withLock({ $0 }), await connection.isOpen { return connection }
      let (connecting, isOwn) = try state.withLock { state -> (SharedResult<RedisConnection>, Bool) in
        switch state {
        case .closed: throw TopicError.closed
        case .connecting(let connecting): return (connecting, false)
        case .none, .connected:
          let connecting = SharedResult<RedisConnection>()
          state = .connecting(connecting)
          return (connecting, true)
        }
      }
      if isOwn {
        _ = startTask {
          do {
            let connection = try await self.server.connect()
            let isWanted = self.state.withLock { state in
              guard case .connecting = state else { return false }
              state = .connected(connection)
              return true
            }
            if !isWanted { connection.close() }
            connecting.finish(.success(connection))
          } catch {
            self.state.withLock { if case .connecting = $0 { $0 = .none } }
            self.observer?.didDisconnect(error)
            connecting.finish(.failure(error))
          }
        }
      }
      return try await connecting.value()
    }

    func send(_ command: RedisCommand, _ name: String) async throws -> RedisReply {
      try await send { _ in
        command
      } name: {
        name
      }
    }

    /// - Parameter command: For the connection that it is sent by.
    func send(_ command: (RedisServerInfo) -> RedisCommand, name: () -> String) async throws -> RedisReply {
      let connection = try await connection()
      let reply = try await connection.send(command(connection.server), within: server.options.commandTimeout)
      return try reply.check(name())
    }

    func close() {
      let state = state.withLock { state in
        defer { state = .closed }
        return state
      }
      switch state {
      case .connected(let connection): connection.close()
      case .none, .connecting, .closed: break
      }
    }
  }
#endif
