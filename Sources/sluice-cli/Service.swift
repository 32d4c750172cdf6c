import Sluice
import SluiceHTTP
import SluiceIO
import SluiceServer
import SluiceStreams
import SluiceWebSocket
import Synchronization

/// The listening side of a run: accepts connections, and gives each its target.
struct Service: Sendable {
  let source: Endpoint
  let destinations: Destinations
  let opener: EndpointOpener
  let connector: Connector
  let options: WebSocketServerOptions
  let tls: TLSServerContext?
  let balancing: LoadBalancerOptions
  let gatherings: Gatherings
  /// Whether standard input is left alone, where it is the target's.
  let hasNoInput: Bool
  /// Whether each connection asks its target for what it was asked for.
  let passesPath: Bool
  let credentials: CredentialUse
  let responseHeaders: Headers
  /// Of listen+udp:.
  let maxDatagramPeers: Int
  /// Of a Unix socket.
  let socketMode: SocketMode?
  let socketOwner: SocketOwner?
  /// Whether WebSockets are served by a server of HTTP, as routes, and on several loops.
  let servesRoutes: Bool
  /// What is counted, if anybody asks for it.
  let metrics: Metrics?
  let notice: ListeningNotice
  let diagnostics: Diagnostics
  let interruption: Interruption

  func run() async throws {
    let stop = Stop()
    for endpoint in destinations.shared {
      let opened =
        endpoint == .standardIO && hasNoInput ? receiving() : try await opener.open(endpoint, as: .target)
      gatherings.share(
        endpoint,
        try await connector.share(opened, gatherings.slow, readsToEnd: endpoint.endsWithItsInput) { stop.stop() })
    }
    do { try await listen(stop) } catch {
      try? await gatherings.finish()
      throw error
    }
    try await gatherings.finish()
  }

  private func listen(_ stop: Stop) async throws {
    switch source {
    case .listenWebSocket(let url):
      if servesRoutes { return try await serveRoutes(url, stop) }
      var options = options
      if let target = destinations.target { options.handshake = handshake(with: target) }
      let server = try await WebSocketServer.listen(url, options: options)
      tellListening(server.url, stop)
      if destinations.target == .echo && connector.isPlain { return try await serveEcho(server, stop) }
      server.onExhaustion(tellOfExhaustion)
      // These the server's observer counts.
      try await serve(server.connections, stop, counting: nil, open: { Visit($0) })
    case .listenTCP(let host, let port):
      let sockets = try await sockets(host, port)
      tell(sockets, "tcp://", orUnix: "unix:", stop)
      let counter = options.listen.counter()
      try await serve(
        sockets, stop,
        open: { socket in
          try await interruption.cancelling {
            let origin = try await origin(of: socket)
            return Visit(socket, from: origin, try admit(socket, from: origin, counter))
          }
        })
    case .listenTLS(let host, let port):
      guard let tls else { return }
      let sockets = try await sockets(host, port)
      tell(sockets, "tls://", orUnix: "tls+unix:", stop)
      let counter = options.listen.counter()
      try await serve(
        sockets, stop,
        open: { socket in
          try await interruption.cancelling {
            let origin = try await origin(of: socket)
            // A refusal is not worth a TLS handshake.
            let slot = try admit(socket, from: origin, counter)
            return Visit(try await tls.accept(over: socket), from: origin, slot)
          }
        })
    case .listenUnix(let path):
      let listener = try await UnixSocket.listen(
        path, permissions: socketMode.map { .init(rawValue: $0.mode) }, owner: socketOwner?.user,
        group: socketOwner?.group)
      listener.onExhaustion(tellOfExhaustion)
      tellListening("unix:\(path)", stop)
      let counter = options.listen.counter()
      try await serve(listener, stop, open: { Visit($0, try admit($0, from: nil, counter)) })
    case .listenUDP(let host, let port):
      let socket = try await DatagramSocket.listen(host, port: port)
      let address = try await UVLoop.shared.run { socket.localAddress }
      try await serve(socket, at: "udp://\(address?.description ?? host)", stop)
    case .listenUnixDatagram(let path):
      let socket = try await DatagramSocket.listen(
        path: path, permissions: socketMode.map { .init(rawValue: $0.mode) }, owner: socketOwner?.user,
        group: socketOwner?.group)
      try await serve(socket, at: "unix-dgram:\(path)", stop)
    case .listenUnixPackets(let path):
      let listener = try await PacketListener.listen(
        path, permissions: socketMode.map { .init(rawValue: $0.mode) }, owner: socketOwner?.user,
        group: socketOwner?.group, onExhaustion: tellOfExhaustion)
      tellListening("unix-seqpacket:\(path)", stop)
      let counter = options.listen.counter()
      let messages = opener.datagrams
      try await serve(
        listener, stop,
        open: { socket in
          let stream = PacketStream(socket, messages)
          return Visit(stream, try admit(from: nil, counter) { stream.abort($0) })
        })
    default: return
    }
  }

  private func serve(_ socket: DatagramSocket, at place: String, _ stop: Stop) async throws {
    tellListening(place, stop)
    let metrics = metrics
    let sessions = DatagramSessions(
      socket, opener.datagrams, idleTimeout: options.connection.idleTimeout ?? DatagramSessions.usualIdleTimeout,
      maxCount: maxDatagramPeers, onDrop: { metrics?.didDrop() })
    try await serve(sessions, stop, open: { Visit($0) })
  }

  /// A listening socket for each loop.
  private func sockets(_ host: String, _ port: Int) async throws -> ServerSockets {
    let name = host.contains(":") ? "[\(host)]" : host
    // The scheme counts for nothing: what TLS there is, is the tool's.
    let url = try ConnectionURL("ws://\(name):\(port)", schemes: ["ws"], allowsPortZero: true)
    let sockets = try await ServerSockets.listen(url, options.listen)
    sockets.onExhaustion(tellOfExhaustion)
    return sockets
  }

  private func tell(_ sockets: ServerSockets, _ scheme: String, orUnix unixScheme: String, _ stop: Stop) {
    guard let name = sockets.listeners.first?.name else { return }
    tellListening((sockets.port > 0 ? scheme : unixScheme) + name, stop)
  }

  private func tellListening(_ place: String, _ stop: Stop) {
    stop.obey(interruption, notice.tell(place) { stop.stop() })
  }

  private func admit(
    _ socket: SocketStream, from origin: IPAddress?, _ counter: ConnectionCounter
  ) throws -> ConnectionSlot? {
    try admit(from: origin, counter) { socket.abort($0) }
  }

  private func admit(
    from origin: IPAddress?, _ counter: ConnectionCounter, orAbort abort: (any Error) -> Void
  ) throws -> ConnectionSlot? {
    var admission = Admission(counter: counter, peer: origin)
    do { try admission.enter() } catch {
      abort(error)
      metrics?.didRefuse(status: error.status)
      throw RefusedAdmission(description: error.reason)
    }
    return admission.slot
  }

  /// Why a connection was not served.
  private struct RefusedAdmission: Error, CustomStringConvertible {
    let description: String
  }

  // MARK: WebSockets that the library's server serves

  /// An echo needs nothing of the tool's: it is the library's own pipe, with what that costs.
  private func serveEcho(_ server: WebSocketServer, _ stop: Stop) async throws {
    let logger = DiagnosticsLog.logger(diagnostics)
    try await untilStopped(stop) {
      try await server.run(logger: logger) { ws in
        do { try await ws.pipe(ws) } catch { tell(error) }
      }
    }
  }

  private func serveRoutes(_ url: String, _ stop: Stop) async throws {
    var server = HTTPServerOptions()
    server.listen = options.listen
    server.shutdownTimeout = options.connection.closeTimeout
    server.observer = metrics.map { HTTPCounting($0) }
    let bare = "http" + Endpoint.withoutPath(url).dropFirst(2)
    let topics = try await TopicService(destinations.topics, for: .appending, opener.topics, diagnostics)
    try await serve(bare, server, "ws", httpRoutes(topics), stop)
  }

  /// Serves a topic to event streams alone.
  func serveEvents(_ url: String, of topic: TopicURL) async throws {
    let (events, path) = (opener.service, Endpoint.broadcast(url: url).listeningPath)
    let topics = try await TopicService([topic], for: .reading, opener.topics, diagnostics)
    let route = topics.eventRoute(path == "/" ? "/*" : path, topic, events.events)
    try await serve(Endpoint.withoutPath(url), events.server, "sse+http", [route], Stop(), below: path)
  }

  /// - Parameter scheme: What takes the place of "http" in the address.
  private func serve(
    _ url: String, _ options: HTTPServerOptions, _ scheme: String, _ routes: [HTTPRoute], _ stop: Stop,
    below path: String = "/"
  ) async throws {
    let listening = try await HTTPServer.listen(url, options: options)
    let address = Endpoint.withoutPath(listening.url).dropFirst(4)
    tellListening("\(scheme)\(address)\(path)", stop)
    let logger = DiagnosticsLog.logger(diagnostics)
    try await untilStopped(stop) { try await listening.run(routes: routes, logger: logger) }
  }

  private func httpRoutes(_ topics: TopicService) -> [HTTPRoute] {
    var routes = destinations.routes.flatMap { route in
      guard case .topic(let url) = route.endpoint else { return [webSocketRoute(route.path, route.endpoint)] }
      return [
        topics.webSocketRoute(route.path, url, options.handshake),
        topics.eventRoute(route.path, url, opener.service.events),
      ]
    }
    let (fields, credentials) = (responseHeaders, credentials)
    if let health = destinations.health { routes.append(.respond(health) { _ in .text("ok\n") }) }
    for (path, folder) in destinations.files {
      routes.append(HTTPRoute.files(path, in: folder).guarded(adding: fields) { try credentials.check($0) })
    }
    if let target = destinations.target {
      let path = source.listeningPath == "/" ? "/*" : source.listeningPath
      if case .topic(let url) = target {
        routes.append(topics.webSocketRoute(path, url, options.handshake))
      } else {
        routes.append(webSocketRoute(path, target))
      }
    }
    return routes
  }

  /// - Parameter endpoint: What its connections are served by.
  private func handshake(with endpoint: Endpoint) -> WebSocketHandshakeOptions {
    var handshake = options.handshake
    if endpoint.isTerminal { handshake.protocols.append(TerminalProtocol.name) }
    return handshake
  }

  private func webSocketRoute(_ path: String, _ endpoint: Endpoint) -> HTTPRoute {
    .webSocket(path, options: handshake(with: endpoint)) { ws in
      diagnostics.verbose("accepted a connection")
      await serve(Visit(ws), by: endpoint)
    }
  }

  /// Runs what serves until a signal comes, or what all connections share has ended.
  private func untilStopped(_ stop: Stop, _ body: @escaping @Sendable () async throws -> Void) async throws {
    let running = Task(executorPreference: UVLoop.shared) { try await body() }
    stop.set { running.cancel() }
    defer { stop.disobey() }
    do { try await running.value } catch is CancellationError {}
  }

  // MARK: connections that the tool takes one by one

  /// Gives each connection a target of its own. Standard input can be given once: then one connection is served, as `nc -l` does.
  private func serve<Connection: Sendable>(
    _ connections: any ReadableStream<Connection>, _ stop: Stop,
    open endpoint: @escaping @Sendable (Connection) async throws -> Visit
  ) async throws {
    try await serve(connections, stop, counting: metrics, open: endpoint)
  }

  /// - Parameter metrics: nil for connections that are counted otherwise, or not.
  private func serve<Connection: Sendable>(
    _ connections: any ReadableStream<Connection>, _ stop: Stop, counting metrics: Metrics?,
    open endpoint: @escaping @Sendable (Connection) async throws -> Visit
  ) async throws {
    guard let target = destinations.target else { return }
    stop.set { connections.cancel(nil) }
    defer { stop.disobey() }
    try await accept(connections, on: .shared, target, counting: metrics, open: endpoint)
  }

  /// The same on each loop that listens.
  private func serve(
    _ sockets: ServerSockets, _ stop: Stop,
    open endpoint: @escaping @Sendable (SocketStream) async throws -> Visit
  ) async throws {
    guard let target = destinations.target else { return }
    let listeners = sockets.listeners
    stop.set { for listener in listeners { listener.cancel(nil) } }
    defer { stop.disobey() }
    try await sockets.run { index in
      let listener = listeners[index]
      try await accept(listener, on: listener.uvLoop, target, counting: metrics, open: endpoint)
    }
  }

  private func accept<Connection: Sendable>(
    _ connections: any ReadableStream<Connection>, on loop: UVLoop, _ target: Endpoint, counting metrics: Metrics?,
    open endpoint: @escaping @Sendable (Connection) async throws -> Visit
  ) async throws {
    if target == .standardIO {
      guard let opened = try await first(of: connections, open: endpoint) else { return }
      metrics?.didOpen()
      defer { metrics?.didEnd() }
      return try await connector.connect(
        opened, hasNoInput ? receiving() : try await opener.open(target, as: .target))
    }
    try await withThrowingDiscardingTaskGroup { group in
      while let connection = try await connections.read() {
        diagnostics.verbose("accepted a connection")
        group.addTask(executorPreference: loop) {
          do {
            let visit = try await endpoint(connection)
            metrics?.didOpen()
            await serve(visit, by: target)
            metrics?.didEnd()
          } catch { tell(error) }
        }
      }
    }
  }

  private func tell(_ error: any Error) {
    if error is CancellationError { return }
    diagnostics.notice("connection failed: \(error)")
    if !(error is RefusedAdmission) { metrics?.didFail(error) }
  }

  /// The first connection that can be used. A visitor that only looks whether somebody is there, or says something else than it should, ends
  /// nothing, and one that says nothing keeps no other waiting.
  /// - Returns: nil if the listening was ended before.
  private func first<Connection: Sendable>(
    of connections: any ReadableStream<Connection>,
    open endpoint: @escaping @Sendable (Connection) async throws -> Visit
  ) async throws -> OpenEndpoint? {
    let chosen = FirstConnection()
    try await withThrowingDiscardingTaskGroup { group in
      while let connection = try await connections.read() {
        group.addTask(executorPreference: UVLoop.shared) {
          do {
            let opened = try await endpoint(connection).endpoint
            if chosen.take(opened) { connections.cancel(nil) } else { opened.giveUp(StreamError.aborted) }
          } catch { tell(error) }
        }
      }
      group.cancelAll()
    }
    return chosen.connection
  }

  /// Where what is received goes, when nothing is sent.
  func receiving() -> OpenEndpoint {
    diagnostics.verbose("standard input is not read; receiving only")
    return .sink(opener.standardOutput())
  }

  private func tellOfExhaustion(_ error: any Error) {
    diagnostics.tellOfExhaustion(error)
    metrics?.didFail("descriptors")
  }

  /// What a load balancer says of a connection, which is behind that then.
  private func origin(of socket: SocketStream) async throws -> IPAddress? {
    let origin = try await balancing.origin(of: socket)
    if let origin { diagnostics.verbose("client address: \(origin)") }
    return origin
  }

  /// One connection of a server, with a target of its own.
  private func serve(_ visit: Visit, by target: Endpoint) async {
    do {
      let opened: OpenEndpoint
      do { opened = try await open(target, for: visit) } catch {
        visit.endpoint.giveUp(error)
        throw error
      }
      try await connector.connect(visit.endpoint(facing: opened), opened)
      diagnostics.verbose("connection ended")
    } catch { tell(error) }
    withExtendedLifetime(visit) {}
  }

  private func open(_ target: Endpoint, for visit: Visit) async throws -> OpenEndpoint {
    var target = target.filled(with: visit.parameters)
    if passesPath, let asked = visit.requestTarget { target = target.asking(for: asked) }
    let filled = target
    // What opens at once is not left to another task: a WebSocket's messages and the Close behind them may be here already, and once that
    // is answered nothing can be given back.
    guard RegularFile.mayWait(toOpen: filled) else { return try await opener.open(filled, as: .target, for: visit) }
    let loop = visit.loop
    return try await interruption.cancelling { try await opener.open(filled, as: .target, on: loop) }
  }
}

/// What stops listening, once there is something that listens: the first signal, or the end of what all connections share.
private final class Stop: Sendable {
  private enum State {
    case waiting
    case set(@Sendable () -> Void)
    case stopped
  }
  private let state = Mutex(State.waiting)
  private let obeyed = Mutex<(interruption: Interruption, id: Int)?>(nil)

  /// - Parameter id: Of the action that stops this.
  func obey(_ interruption: Interruption, _ id: Int) {
    obeyed.withLock { $0 = (interruption, id) }
  }

  func disobey() {
    if let (interruption, id) = obeyed.withLock({ $0.take() }) { interruption.remove(id) }
  }

  func set(_ action: @escaping @Sendable () -> Void) {
    let isStopped = state.withLock { state in
      if case .stopped = state { return true }
      state = .set(action)
      return false
    }
    if isStopped { action() }
  }

  func stop() {
    let last = state.withLock { state in
      defer { state = .stopped }
      return state
    }
    if case .set(let action) = last { action() }
  }
}

/// Where connections of a server meet.
final class Gatherings: Sendable {
  let slow: SlowConnection
  private let rooms: Rooms
  private let shared = Mutex<[Endpoint: SharedTarget]>([:])

  init(_ slow: SlowConnection, framing: MessageFraming, _ metrics: Metrics?) {
    self.slow = slow
    rooms = Rooms(slow, framing: framing, metrics)
  }

  func share(_ endpoint: Endpoint, _ target: SharedTarget) { shared.withLock { $0[endpoint] = target } }

  func room(_ name: String) -> Room { rooms.enter(name) }

  func room(of endpoint: Endpoint) -> Room? { shared.withLock { $0[endpoint] }?.room }

  /// Ends what is shared, when nobody is connected any more.
  func finish() async throws {
    var failure: (any Error)?
    for target in shared.withLock({ $0.values.map { $0 } }) {
      do { try await target.finish() } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }
}
