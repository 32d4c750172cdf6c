#if NATS
  import CSluiceNATS
  import Dispatch
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// What comes from a server: an answer, or a message of a subscription.
  struct NATSMessage: Sendable {
    let bytes: Bytes
    /// Nobody is there to answer.
    let hasNoResponders: Bool
    /// Of headers of NATS: "404" for a message that is not there. `denied` of a subscription that is not permitted: then the bytes say so.
    let status: String?
    /// Where JetStream has it.
    let sequence: UInt64?

    static let denied = "denied"
  }

  /// One connection of cnats, which ends when it is lost: whoever needs another one makes it.
  ///
  /// What cnats does at the calling thread may wait, for a server or for room in a socket. So all calls are made by a thread of the connection's own;
  /// answers and messages come on cnats' threads.
  @safe final class NATSConnection: @unchecked Sendable {  // what is not `let` is touched on the queue only
    private struct Request {
      let subject: String
      let deadline: ContinuousClock.Instant
      let answer: SharedResult<NATSMessage>
    }
    private struct State {
      var requests: [UInt64: Request] = [:]
      var next: UInt64 = 0
      /// By subject, and by the number of whoever listens.
      var listeners: [String: [UInt64: @Sendable (NATSMessage) -> Void]] = [:]
      var isSweeping = false
      var failure: (any Error)?
      var life: (name: String, time: ContinuousClock.Instant)?
    }
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "sluice.topics.nats")
    private let inbox = "_INBOX.\(LogEpoch.newName())\(LogEpoch.newName())"
    private let limit: Duration
    /// What cnats' callbacks know the connection by.
    private let number: UInt
    private var handle: OpaquePointer?
    private var subscriptions = unsafe [String: OpaquePointer]()
    private(set) var maxPayload = 0
    /// Fails when the connection has ended.
    let end = SharedResult<Void>()

    /// Connections by number: what cnats calls back may have ended meanwhile.
    private static let open = Mutex<(next: UInt, connections: [UInt: NATSConnection])>((1, [:]))

    private init(_ limit: Duration) {
      self.limit = limit
      number = Self.open.withLock { open in
        defer { open.next += 1 }
        return open.next
      }
    }

    /// - Throws: `TopicError.unavailable`, `.refused`.
    static func open(_ host: NATSServer.Host, of server: NATSServer) async throws -> NATSConnection {
      let connection = NATSConnection(server.options.commandTimeout)
      open.withLock { $0.connections[connection.number] = connection }
      do {
        try await withCheckedThrowingContinuation { (next: CheckedContinuation<Void, any Error>) in
          connection.queue.async { next.resume(with: Result { try connection.connect(host, server) }) }
        }
      } catch {
        connection.fail(error)
        throw error
      }
      return connection
    }

    var isOpen: Bool { state.withLock { $0.failure == nil } }

    /// The server's life that was seen last, if that was not long ago.
    var life: String? {
      get { state.withLock { state in state.life.flatMap { .now - $0.time < .seconds(1) ? $0.name : nil } } }
      set { state.withLock { $0.life = newValue.map { ($0, .now) } } }
    }

    // MARK: on the queue

    private func connect(_ host: NATSServer.Host, _ server: NATSServer) throws {
      let settings = server.options
      var made: OpaquePointer?
      try check(unsafe natsOptions_Create(&made))
      guard let options = unsafe made else { throw TopicError.unavailable("out of memory") }
      defer { unsafe natsOptions_Destroy(options) }
      let name = host.name.utf8.contains(UInt8(ascii: ":")) ? "[\(host.name)]" : host.name
      try check(unsafe natsOptions_SetURL(options, "nats://\(name):\(host.port)"))
      if let file = settings.credentialsFile {
        try check(unsafe natsOptions_SetUserCredentialsFromFiles(options, file, nil))
      } else if let token = settings.token {
        try check(unsafe natsOptions_SetToken(options, token))
      } else if let user = settings.username {
        try check(unsafe natsOptions_SetUserInfo(options, user, settings.password ?? ""))
      }
      if server.isSecure {
        try check(unsafe natsOptions_SetSecure(options, true))
        try check(unsafe natsOptions_SetExpectedHostname(options, host.name))
        if let file = settings.authorityFile {
          try check(unsafe natsOptions_LoadCATrustedCertificates(options, file))
        }
        if let certificate = settings.certificateFile {
          try check(unsafe natsOptions_LoadCertificatesChain(options, certificate, settings.keyFile ?? certificate))
        }
      }
      let milliseconds = Int64(clamping: max(limit.bounded.wholeMilliseconds, 1))
      try check(unsafe natsOptions_SetTimeout(options, milliseconds))
      try check(unsafe natsOptions_SetWriteDeadline(options, milliseconds))
      try check(unsafe natsOptions_SetPingInterval(options, max(settings.probeInterval.bounded.wholeMilliseconds, 1)))
      // Without an answer to one, the next finds the connection lost.
      try check(unsafe natsOptions_SetMaxPingsOut(options, 1))
      try check(unsafe natsOptions_SetAllowReconnect(options, false))
      try check(unsafe natsOptions_SetIgnoreDiscoveredServers(options, true))
      // Without it, cnats waits a millisecond for more to be sent.
      try check(unsafe natsOptions_SetSendAsap(options, true))
      // Without it, there is a thread for each subscription.
      try check(unsafe natsOptions_UseGlobalMessageDelivery(options, true))
      try check(unsafe natsOptions_SetName(options, "sluice"))
      let number = unsafe UnsafeMutableRawPointer(bitPattern: number)
      try check(
        unsafe natsOptions_SetClosedCB(
          options,
          { handle, closure in
            let error = unsafe NATSConnection.lastError(handle)
            unsafe NATSConnection.numbered(closure)?.fail(TopicError.unavailable(error ?? "the connection was lost"))
          }, number))
      try check(
        unsafe natsOptions_SetErrorHandler(
          options,
          { handle, _, status, closure in
            guard status == NATS_NOT_PERMITTED else { return }
            unsafe NATSConnection.numbered(closure)?.wasNotPermitted(
              NATSConnection.calledBackError ?? NATSConnection.lastError(handle))
          }, number))
      var connected: OpaquePointer?
      let status = unsafe natsConnection_Connect(&connected, options)
      try check(status, connecting: true)
      guard let handle = unsafe connected else { throw TopicError.unavailable("out of memory") }
      unsafe self.handle = handle
      maxPayload = Int(clamping: unsafe natsConnection_GetMaxPayload(handle))
      guard unsafe natsConnection_HasHeaderSupport(handle) == NATS_OK else {
        throw TopicError.refused("NATS 2.9 or later is needed, and this server has no headers")
      }
      try subscribe(inbox + ".*")
    }

    private func subscribe(_ subject: String) throws {
      guard let handle = unsafe handle else { throw TopicError.closed }
      var made: OpaquePointer?
      let status = unsafe natsConnection_Subscribe(
        &made, handle, subject,
        { _, subscription, message, closure in
          guard let message = unsafe message else { return }
          defer { unsafe natsMsg_Destroy(message) }
          guard let connection = unsafe NATSConnection.numbered(closure) else { return }
          unsafe connection.receive(message, by: subscription)
        }, UnsafeMutableRawPointer(bitPattern: number))
      try check(status)
      unsafe subscriptions[subject] = made
    }

    /// What a status of cnats' means.
    private func check(_ status: natsStatus, connecting: Bool = false) throws {
      guard status != NATS_OK else { return }
      var text = unsafe String(cString: natsStatus_GetText(status))
      if let detail = unsafe nats_GetLastError(nil) {
        let detail = unsafe String(cString: detail)
        if !detail.isEmpty { text += ": " + detail }
      }
      switch status {
      case NATS_SSL_ERROR: throw TopicError.untrusted(text)
      case NATS_CONNECTION_AUTH_FAILED, NATS_SECURE_CONNECTION_WANTED, NATS_SECURE_CONNECTION_REQUIRED,
        NATS_NOT_PERMITTED, NATS_INVALID_ARG, NATS_ADDRESS_MISSING, NATS_INVALID_SUBJECT, NATS_NOT_FOUND:
        throw TopicError.refused(text)
      // Of a file that can't be read, and of a server that says why it does not want us.
      case NATS_ERR where connecting: throw TopicError.refused(text)
      default: throw TopicError.unavailable(text)
      }
    }

    /// What a callback for an error is called for. The connection's own last error may be a later one already.
    private static var calledBackError: String? {
      guard let text = unsafe nats_GetLastError(nil) else { return nil }
      let string = unsafe String(cString: text)
      return string.utf8.firstRange(of: "ermissions".utf8) == nil ? nil : string
    }

    private static func lastError(_ handle: OpaquePointer?) -> String? {
      var text: UnsafePointer<CChar>?
      guard let handle = unsafe handle, unsafe natsConnection_GetLastError(handle, &text) != NATS_OK,
        let text = unsafe text
      else { return nil }
      let string = unsafe String(cString: text)
      return string.isEmpty ? nil : string
    }

    // MARK: on cnats' threads

    private static func numbered(_ closure: UnsafeMutableRawPointer?) -> NATSConnection? {
      let number = UInt(bitPattern: closure)
      return open.withLock { $0.connections[number] }
    }

    private func receive(_ message: OpaquePointer, by subscription: OpaquePointer?) {
      guard let subscription = unsafe subscription, let name = unsafe natsSubscription_GetSubject(subscription),
        let subject = unsafe natsMsg_GetSubject(message)
      else { return }
      let received = unsafe NATSMessage(message)
      let (own, listened) = unsafe (String(cString: subject), String(cString: name))
      if own.utf8.starts(with: inbox.utf8), let number = UInt64(own.utf8.dropFirst(inbox.utf8.count + 1).text) {
        finish(number, .success(received))
      } else {
        let listeners = state.withLock { $0.listeners[listened] ?? [:] }
        for listener in listeners.values { listener(received) }
      }
    }

    /// The server drops what it does not permit, and says so without an answer.
    /// - Parameter text: nil where it is not known what that was: it may be whatever is waited for.
    private func wasNotPermitted(_ text: String?) {
      guard let text else { return fail(TopicError.refused("a permission is missing")) }
      let refused = TopicError.refused(text)
      if text.utf8.firstRange(of: inbox.utf8) != nil { return fail(refused) }
      func names(_ subject: String) -> Bool { text.utf8.firstRange(of: "\"\(subject)\"".utf8) != nil }
      let (answers, listeners) = state.withLock { state in
        let numbers = state.requests.filter { names($0.value.subject) }.keys
        let answers = numbers.compactMap { state.requests.removeValue(forKey: $0)?.answer }
        return (answers, state.listeners.filter { names($0.key) }.values.flatMap(\.values))
      }
      for answer in answers { answer.finish(.failure(refused)) }
      for listener in listeners { listener(NATSMessage(denied: text)) }
    }

    private func finish(_ number: UInt64, _ result: Result<NATSMessage, any Error>) {
      let request = state.withLock { $0.requests.removeValue(forKey: number) }
      request?.answer.finish(result)
    }

    // MARK: requests

    /// - Throws: `TopicError.unavailable` when the connection is lost, or the answer does not come in time: then it may have been carried out.
    func request(_ subject: String, _ payload: Bytes, headers: [(String, String)] = []) async throws -> NATSMessage {
      try await begin(subject, payload, headers: headers).value()
    }

    /// As `request`, without waiting for the answer.
    func begin(_ subject: String, _ payload: Bytes, headers: [(String, String)] = []) -> SharedResult<NATSMessage> {
      let answer = SharedResult<NATSMessage>()
      let outcome = state.withLock { state -> Result<UInt64, any Error> in
        if let failure = state.failure { return .failure(failure) }
        state.next += 1
        state.requests[state.next] = Request(subject: subject, deadline: .now + limit.bounded, answer: answer)
        if !state.isSweeping {
          state.isSweeping = true
          sweepLater()
        }
        return .success(state.next)
      }
      switch outcome {
      case .failure(let error): answer.finish(.failure(error))
      case .success(let number):
        queue.async {
          do { try self.publish(subject, payload, headers, answerTo: "\(self.inbox).\(number)") } catch {
            self.finish(number, .failure(error))
          }
        }
      }
      return answer
    }

    /// Says something to whoever listens, which may get lost.
    func tell(_ subject: String, _ text: String) {
      queue.async { try? self.publish(subject, Bytes(text), [], answerTo: nil) }
    }

    private func publish(
      _ subject: String, _ payload: Bytes, _ headers: [(String, String)], answerTo inbox: String?
    ) throws {
      guard let handle = unsafe handle else { throw TopicError.unavailable("the connection was lost") }
      var made: OpaquePointer?
      let status = unsafe payload.withUnsafeBytes { buffer in
        unsafe natsMsg_Create(
          &made, subject, inbox, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(clamping: buffer.count))
      }
      try check(status)
      guard let message = unsafe made else { throw TopicError.unavailable("out of memory") }
      defer { unsafe natsMsg_Destroy(message) }
      for (name, value) in headers { try check(unsafe natsMsgHeader_Set(message, name, value)) }
      try check(unsafe natsConnection_PublishMsg(handle, message))
    }

    private func sweepLater() {
      let interval = min(max(limit.bounded / 8, .milliseconds(1)), .seconds(1))
      queue.asyncAfter(deadline: .now() + .milliseconds(Int(clamping: interval.wholeMilliseconds))) { self.sweep() }
    }

    private func sweep() {
      let now = ContinuousClock.now
      let late = state.withLock { state in
        let numbers = state.requests.filter { $0.value.deadline <= now }.keys
        let late = numbers.compactMap { state.requests.removeValue(forKey: $0)?.answer }
        state.isSweeping = !state.requests.isEmpty
        if state.isSweeping { sweepLater() }
        return late
      }
      for answer in late { answer.finish(.failure(TopicError.unavailable("no answer within the time limit"))) }
    }

    // MARK: subscriptions

    /// Has `listener` called with what is said on a subject, on a thread of cnats', until `silence`. What is asked for after this call is answered when
    /// the subscription is known to the server.
    /// - Returns: who listens.
    func listen(to subject: String, _ listener: @escaping @Sendable (NATSMessage) -> Void) -> UInt64 {
      let number = state.withLock { state in
        state.next += 1
        state.listeners[subject, default: [:]][state.next] = listener
        return state.next
      }
      queue.async {
        guard unsafe self.subscriptions[subject] == nil else { return }
        do { try self.subscribe(subject) } catch { self.fail(error) }
      }
      return number
    }

    func silence(_ number: UInt64, on subject: String) {
      state.withLock { $0.listeners[subject]?[number] = nil }
      queue.async {
        let isWanted = self.state.withLock { state in
          if state.listeners[subject]?.isEmpty == false { return true }
          state.listeners[subject] = nil
          return false
        }
        guard !isWanted, let subscription = unsafe self.subscriptions.removeValue(forKey: subject) else { return }
        _ = unsafe natsSubscription_Unsubscribe(subscription)
        unsafe natsSubscription_Destroy(subscription)
      }
    }

    // MARK: the end

    func close() { fail(TopicError.closed) }

    private func fail(_ error: any Error) {
      let requests = state.withLock { state -> [Request]? in
        guard state.failure == nil else { return nil }
        state.failure = error
        defer {
          state.requests = [:]
          state.listeners = [:]
        }
        return Array(state.requests.values)
      }
      guard let requests else { return }
      for request in requests { request.answer.finish(.failure(error)) }
      end.finish(.failure(error))
      queue.async {
        while let subscription = unsafe self.subscriptions.popFirst()?.value {
          unsafe natsSubscription_Destroy(subscription)
        }
        if let handle = unsafe self.handle { unsafe natsConnection_Destroy(handle) }
        unsafe self.handle = nil
        Self.open.withLock { $0.connections[self.number] = nil }
      }
    }
  }

  extension NATSMessage {
    fileprivate init(denied text: String) {
      (bytes, hasNoResponders, status, sequence) = (Bytes(text), false, Self.denied, nil)
    }

    fileprivate init(_ message: OpaquePointer) {
      hasNoResponders = unsafe natsMsg_IsNoResponders(message)
      if let data = unsafe natsMsg_GetData(message) {
        let memory = unsafe UnsafeRawBufferPointer(start: data, count: Int(natsMsg_GetDataLength(message)))
        bytes = unsafe Bytes(copying: memory.assumingMemoryBound(to: UInt8.self).span)
      } else {
        bytes = Bytes()
      }
      status = unsafe Self.header("Status", of: message)
      sequence = unsafe Self.header("Nats-Sequence", of: message).flatMap { UInt64($0) }
    }

    private static func header(_ name: String, of message: OpaquePointer) -> String? {
      var value: UnsafePointer<CChar>?
      guard unsafe natsMsgHeader_Get(message, name, &value) == NATS_OK, let value = unsafe value else { return nil }
      return unsafe String(cString: value)
    }
  }
#endif
