#if NATS
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// Servers before NATS 2.9.16 that are asked by two connections to make one stream, at the same time, make it twice, and then lose what is stored there. So whoever
  /// wants to make one says so to the others, waits for an objection, and objects to others until it is made.
  private struct NATSMaking {
    enum State {
      case waiting
      case making
      case yielded
    }
    let name = LogEpoch.newName()
    var state = State.waiting

    /// Goes before all names.
    var objection: String { "!" + name }

    /// - Returns: what is to be said to another one that wants to make it too.
    mutating func answer(to other: String) -> String? {
      if other == name || other == objection { return nil }
      switch state {
      case .yielded: return nil
      case .making: return objection
      case .waiting where other < name:
        state = .yielded
        return nil
      case .waiting: return name
      }
    }
  }

  extension NATSConnection {
    /// How long it takes until another one may have objected, on a machine that is busy.
    private static let objectionTime = Duration.milliseconds(50)

    /// Makes a stream; or does not, as somebody else is about to, and returns after a while.
    func make(_ stream: String, _ configuration: String, _ names: NATSNames) async throws {
      let subject = names.making(stream)
      let making = Mutex(NATSMaking())
      let listener = listen(to: subject) { [weak self] message in
        guard message.status != NATSMessage.denied else { return }
        if let answer = making.withLock({ $0.answer(to: message.bytes.string) }) { self?.tell(subject, answer) }
      }
      defer { silence(listener, on: subject) }
      tell(subject, making.withLock { $0.name })
      try await pause(for: Self.objectionTime)
      let isOurs = making.withLock { making in
        guard case .waiting = making.state else { return false }
        making.state = .making
        return true
      }
      guard isOurs else { return try await pause(for: Self.objectionTime) }
      let request = names.request("STREAM.CREATE", stream)
      if let error = NATSError(try await ask(request, configuration)) { throw error.topicError(request) }
    }
  }
#endif
