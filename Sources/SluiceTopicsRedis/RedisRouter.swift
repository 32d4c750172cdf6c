#if Redis
  import SluiceStreams
  import SluiceTopics
  import Synchronization

  /// A server, and the connections that are shared to it.
  final class RedisNode: Sendable {
    let server: RedisServer
    let appends: RedisLink
    let reads: RedisLink

    init(_ server: RedisServer, _ observer: (any TopicObserver)?) {
      self.server = server
      appends = RedisLink(server, observer)
      reads = RedisLink(server, observer)
    }

    func close() {
      appends.close()
      reads.close()
    }
  }

  /// Knows which server has a topic: the one that there is, or one of a cluster, in which each key belongs to a slot, and each slot to a server.
  ///
  /// What it knows is asked for again when a server has not answered, or answers that it is another one's.
  final class RedisRouter: Sendable {
    private enum Layout {
      case single(RedisNode)
      case cluster([RedisSlots])
    }
    private struct State {
      var layout: Layout?
      /// Whether the layout may be an older one.
      var isStale = false
      var nodes: [RedisServer.Place: RedisNode] = [:]
      var asking: SharedResult<Void>?
      var isClosed = false
    }
    private let state = Mutex(State())
    private let seeds: [RedisServer]
    private let observer: (any TopicObserver)?

    /// - Parameter seeds: One at least; any of one cluster.
    init(_ seeds: [RedisServer], _ observer: (any TopicObserver)?) {
      self.seeds = seeds
      self.observer = observer
    }

    /// As far as is known.
    var isClustered: Bool { state.withLock { if case .cluster? = $0.layout { true } else { false } } }

    /// What a server of a cluster does not do another one may do by now.
    func forget() { state.withLock { if case .cluster? = $0.layout { $0.isStale = true } } }

    /// - Throws: `TopicError.unavailable`, `.refused`, `.untrusted`, `.closed`.
    func node(for topic: String) async throws -> RedisNode {
      if let node = try known(topic) { return node }
      try await ask()
      guard let node = state.withLock({ Self.node(for: topic, in: $0) }) else {
        forget()
        throw TopicError.unavailable("no server of the cluster has the slot of topic \(topic)")
      }
      return node
    }

    private func known(_ topic: String) throws -> RedisNode? {
      try state.withLock { state in
        if state.isClosed { throw TopicError.closed }
        return state.isStale ? nil : Self.node(for: topic, in: state)
      }
    }

    private static func node(for topic: String, in state: State) -> RedisNode? {
      switch state.layout {
      case nil: return nil
      case .single(let node)?: return node
      case .cluster(let slots)?:
        let slot = RedisSlots.slot(of: topic)
        return slots.first { $0.range.contains(slot) }.flatMap { state.nodes[$0.place] }
      }
    }

    /// All servers that have keys.
    func nodes() async throws -> [RedisNode] {
      try await ask()
      return state.withLock { state in
        switch state.layout {
        case nil: []
        case .single(let node)?: [node]
        case .cluster(let slots)?: Set(slots.map(\.place)).compactMap { state.nodes[$0] }
        }
      }
    }

    /// A connection of one's own to the server that has a topic.
    func connect(for topic: String) async throws -> RedisConnection {
      let node = try await node(for: topic)
      do { return try await node.server.connect() } catch {
        forget()
        throw error
      }
    }

    /// Where a server sends a command on to.
    /// - Returns: nil if the answer is one; also whether it is to be told that the key is on its way there.
    func redirection(_ reply: RedisReply, of topic: String, from node: RedisNode) -> (RedisNode, asks: Bool)? {
      guard case .error(let text) = reply else { return nil }
      let words = text.split(separator: " ")
      guard words.count == 3, words[0] == "MOVED" || words[0] == "ASK",
        let colon = words[2].lastIndex(of: ":"), let port = Int(words[2][words[2].index(after: colon)...]),
        (1...65_535).contains(port)
      else { return nil }
      // Without a name it is the one that says so.
      var server = node.server.at(String(words[2][..<colon]), port: port)
      if colon == words[2].startIndex, case .host(let host, _, _) = node.server.place {
        server = server.at(host, port: port)
      }
      let next = state.withLock { state in
        if words[0] == "MOVED" { state.isStale = true }
        return Self.node(at: server, in: &state, observer)
      }
      return (next, words[0] == "ASK")
    }

    private static func node(at server: RedisServer, in state: inout State, _ observer: (any TopicObserver)?)
      -> RedisNode
    {
      if let node = state.nodes[server.place] { return node }
      let node = RedisNode(server, observer)
      if state.isClosed { node.close() }
      state.nodes[server.place] = node
      return node
    }

    /// Asks who has what, once for all who want to know.
    private func ask() async throws {
      let (asking, isOwn) = try state.withLock { state -> (SharedResult<Void>, Bool) in
        if state.isClosed { throw TopicError.closed }
        if let asking = state.asking { return (asking, false) }
        let asking = SharedResult<Void>()
        state.asking = asking
        return (asking, true)
      }
      if isOwn {
        _ = startTask {
          let result: Result<Void, any Error>
          do { result = .success(try await self.askAnybody()) } catch { result = .failure(error) }
          self.state.withLock { $0.asking = nil }
          asking.finish(result)
        }
      }
      try await asking.value()
    }

    /// The first one that answers knows.
    private func askAnybody() async throws {
      var servers = state.withLock { state in state.nodes.values.map(\.server) }.shuffled()
      servers += seeds.filter { seed in !servers.contains { $0.place == seed.place } }
      var failure: any Error = TopicError.unavailable("there is no server")
      for server in servers {
        do { return try await ask(server) } catch { failure = error }
      }
      throw failure
    }

    private func ask(_ server: RedisServer) async throws {
      let node = state.withLock { Self.node(at: server, in: &$0, observer) }
      let connection = try await node.reads.connection()
      guard connection.server.isClustered else {
        return state.withLock { state in
          state.layout = .single(node)
          state.isStale = false
        }
      }
      let reply = try await connection.send(RedisCommand("CLUSTER", "SLOTS"), within: server.options.commandTimeout)
      let found = (try reply.check("CLUSTER SLOTS").array ?? []).compactMap { RedisSlots.Found($0, from: server) }
      guard !found.isEmpty else { throw TopicError.unavailable("CLUSTER SLOTS: the cluster has no slots") }
      let unused = state.withLock { state -> [RedisNode] in
        for one in found { _ = Self.node(at: one.server, in: &state, observer) }
        let used = Set(found.map(\.server.place) + [server.place])
        let unused = state.nodes.filter { !used.contains($0.key) }
        for place in unused.keys { state.nodes[place] = nil }
        state.layout = .cluster(found.map { RedisSlots(range: $0.range, place: $0.server.place) })
        state.isStale = false
        return Array(unused.values)
      }
      for node in unused { node.close() }
    }

    func close() {
      let nodes = state.withLock { state in
        state.isClosed = true
        return Array(state.nodes.values)
      }
      for node in nodes { node.close() }
    }
  }

  /// Slots of one server.
  struct RedisSlots: Sendable {
    let range: ClosedRange<Int>
    let place: RedisServer.Place

    /// One row of CLUSTER SLOTS: first, last, and the primary's host and port.
    struct Found {
      let range: ClosedRange<Int>
      let server: RedisServer

      init?(_ reply: RedisReply, from server: RedisServer) {
        guard let row = reply.array, row.count >= 3, let first = row[0].number, let last = row[1].number, first <= last,
          last < 16_384, let primary = row[2].array, primary.count >= 2, let port = primary[1].number,
          let port = Int(exactly: port), (1...65_535).contains(port)
        else { return nil }
        range = Int(first)...Int(last)
        let host = primary[0].text ?? ""
        // One that does not know its own address.
        if host.isEmpty || host == "?", case .host(let name, _, _) = server.place {
          self.server = server.at(name, port: port)
        } else {
          self.server = server.at(host, port: port)
        }
      }
    }

    /// The slot of all keys that have a topic's name in braces (CRC-16/XMODEM).
    static func slot(of topic: String) -> Int {
      var crc: UInt16 = 0
      for byte in topic.utf8 {
        crc ^= UInt16(byte) << 8
        for _ in 0..<8 { crc = crc & 0x8000 != 0 ? (crc << 1) ^ 0x1021 : crc << 1 }
      }
      return Int(crc % 16_384)
    }
  }
#endif
