#if NATS
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// A connection that is made when it is needed, and again when it was lost: to one server after the other.
  final class NATSLink: Sendable {
    private enum State {
      case none
      case connecting(SharedResult<NATSConnection>)
      case connected(NATSConnection)
      case closed
    }
    private let state = Mutex(State.none)
    private let turn: Mutex<Int>
    let server: NATSServer
    private let observer: (any TopicObserver)?

    init(_ server: NATSServer, _ observer: (any TopicObserver)?) {
      self.server = server
      self.observer = observer
      turn = Mutex(Int.random(in: 0..<server.hosts.count))
    }

    deinit { close() }

    /// - Throws: `TopicError.unavailable`, `.refused`, `.closed`.
    func connection() async throws -> NATSConnection {
      let (connecting, isOwn) = try state.withLock { state -> (SharedResult<NATSConnection>, Bool) in
        switch state {
        case .closed: throw TopicError.closed
        case .connecting(let connecting): return (connecting, false)
        case .connected(let connection) where connection.isOpen:
          let connected = SharedResult<NATSConnection>()
          connected.finish(.success(connection))
          return (connected, false)
        case .none, .connected:
          let connecting = SharedResult<NATSConnection>()
          state = .connecting(connecting)
          return (connecting, true)
        }
      }
      if isOwn {
        _ = startTask {
          do {
            let connection = try await self.connect()
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

    /// To the first one that answers.
    private func connect() async throws -> NATSConnection {
      var failure: any Error = TopicError.unavailable("there is no server")
      for _ in server.hosts {
        let host = turn.withLock { turn in
          defer { turn += 1 }
          return server.hosts[turn % server.hosts.count]
        }
        do { return try await NATSConnection.open(host, of: server) } catch { failure = error }
      }
      throw failure
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

  extension NATSConnection {
    /// Asks JetStream.
    /// - Throws: `TopicError.unavailable` also for a cluster without a leader.
    func ask(_ subject: String, _ payload: String) async throws -> NATSValue {
      let answer = try await request(subject, Bytes(payload))
      if answer.hasNoResponders { throw TopicError.unavailable("\(subject): JetStream does not answer") }
      guard let value = NATSValue(answer.bytes) else {
        throw TopicError.unavailable("\(subject): the answer is not understood")
      }
      return value
    }

    /// The newest message of a stream on a subject.
    func last(of stream: String, on subject: String, _ names: NATSNames) async throws -> Result<NATSStored, NATSError> {
      try await stored(in: stream, "\"last_by_subj\":\"\(subject)\"", names)
    }

    /// A message of a stream, by the stream's leader: copies may be behind.
    /// - Parameter query: Which one, as JetStream has it.
    func stored(in stream: String, _ query: String, _ names: NATSNames) async throws -> Result<NATSStored, NATSError> {
      let request = names.request("STREAM.MSG.GET", stream)
      let value = try await ask(request, "{\(query)}")
      if let error = NATSError(value) { return .failure(error) }
      let message = value["message"]
      guard let sequence = message?["seq"]?.number, let data = Base64.decode((message?["data"]?.text ?? "").utf8) else {
        throw TopicError.unavailable("\(request): the answer is not understood")
      }
      return .success(NATSStored(sequence: sequence, bytes: Bytes(data)))
    }

    /// Stores a message, if the stream is as it is expected to be.
    /// - Parameter lastOnSubject: nil: no matter which.
    /// - Returns: its sequence; nil where no stream has the subject.
    func store(
      _ payload: Bytes, on subject: String, behind last: UInt64, lastOnSubject: UInt64? = nil
    ) async throws -> Result<UInt64, NATSError>? {
      var headers = [("Nats-Expected-Last-Sequence", String(last))]
      if let lastOnSubject { headers.append(("Nats-Expected-Last-Subject-Sequence", String(lastOnSubject))) }
      let answer = try await request(subject, payload, headers: headers)
      if answer.hasNoResponders { return nil }
      guard let value = NATSValue(answer.bytes) else {
        throw TopicError.unavailable("an append's answer is not understood")
      }
      if let error = NATSError(value) { return .failure(error) }
      guard let sequence = value["seq"]?.number, sequence == last + 1 else {
        throw TopicError.unavailable("an append's answer is not understood")
      }
      return .success(sequence)
    }

    /// The life of what keeps the streams: a name in a stream in memory, which is gone when the server's process is, or the majority of a cluster. Whoever
    /// finds it gone begins another one, and with it new epochs.
    func currentLife(_ server: NATSServer) async throws -> String {
      if let life { return life }
      let names = server.names
      let deadline = ContinuousClock.now + server.options.commandTimeout.bounded
      while ContinuousClock.now < deadline {
        let found = try await last(of: names.lifeStream, on: names.lifeSubject, names)
        switch found {
        case .success(let stored):
          let name = stored.bytes.string
          guard Position("\(name).0") != nil else {
            throw TopicError.refused("\(names.lifeStream) is not what Sluice writes")
          }
          life = name
          return name
        case .failure(let error) where error.code == NATSError.noSuchStream:
          try await make(
            names.lifeStream,
            """
            {"name":"\(names.lifeStream)","subjects":["\(names.lifeSubject)"],"retention":"limits","storage":"memory",\
            "num_replicas":\(server.options.replicas),"max_consumers":-1,"max_msgs":1,"max_bytes":4096,"max_age":0,"discard":"old",\
            "description":"Sluice: changes when messages of topics may have been lost"}
            """, names)
        case .failure(let error) where error.code == NATSError.noSuchMessage:
          let info = try await ask(names.request("STREAM.INFO", names.lifeStream), "")
          guard let last = info["state"]?["last_seq"]?.number else {
            throw TopicError.unavailable("STREAM.INFO: not understood")
          }
          // Of all who try, one begins it; then it is found.
          if case .failure(let error)? = try await store(Bytes(LogEpoch.newName()), on: names.lifeSubject, behind: last),
            error.code != NATSError.wrongLastSequence
          {
            throw error.topicError(names.lifeSubject)
          }
        case .failure(let error): throw error.topicError(names.request("STREAM.MSG.GET", names.lifeStream))
        }
      }
      throw TopicError.unavailable("\(names.lifeStream) does not come about")
    }
  }

  /// A message of a stream.
  struct NATSStored: Sendable {
    let sequence: UInt64
    let bytes: Bytes
  }
#endif
