import Sluice
import SluiceHTTP
import SluiceWebSocket

/// One run of the tool: opens the endpoints and connects them.
struct Session: Sendable {
  private let source: Endpoint
  private let target: Endpoint
  private let opener: EndpointOpener
  private let connector: Connector
  private let server: WebSocketServerOptions
  private let tls: TLSServerContext?
  private let balancing: LoadBalancerOptions
  /// Whether standard input is left alone, where it is the TARGET's.
  private let hasNoInput: Bool
  private let diagnostics: Diagnostics
  private let interruption: Interruption

  /// - Throws: `UsageError` for a command line that can't be carried out, before anything is opened.
  init(_ command: SluiceCommand, diagnostics: Diagnostics) throws {
    source = try Endpoint(command.source)
    target = try Endpoint(command.target)
    guard !source.isBroadcast || target.isTopic else {
      throw UsageError("listen+sse+… can only be written: write it second, sluice SOURCE \(command.source)")
    }
    guard !target.isListener else { throw UsageError("a listening endpoint comes first: sluice \(command.target) …") }
    if let file = RegularFile.written(by: target), RegularFile.read(by: source) == file {
      throw UsageError("\(source.name) and \(target.name) are the same file, which can't be read while it is written")
    }
    // What a service or a job in the background finds as its input is no answer to what it reads: it must not end that. An input that was
    // named is.
    hasNoInput =
      command.noInput || source.isTopic || (source.isRemote || source.isListener) && StandardDescriptors.hasNoInput
    try OptionScope.check(CommandLine.arguments.dropFirst(), source, target)
    balancing = command.balancing
    let security = command.security
    let credentials = try security.credentials(source, target)
    var headers = try command.webSocket.requestHeaders()
    let authorizes = headers.contains { $0.name.lowercased() == "authorization" }
    if authorizes, let endpoint = [source, target].first(where: \.hasCredentials) {
      throw UsageError(
        "the URL of \(endpoint.name) already has credentials; --header Authorization conflicts with them")
    }
    if case .sent(let sent) = credentials {
      if authorizes { throw UsageError("--basic-auth and --header Authorization are mutually exclusive") }
      headers.append(name: "Authorization", value: sent.field)
      if source.isListener {
        diagnostics.notice("\(source.name) requires no credentials of its clients; they are sent to \(target.name)")
      }
    }
    var connection = WebSocketOptions()
    connection.maxMessageSize = command.webSocket.maxMessage
    // What was sent before the Close may still have to pass a slow reader at the other end.
    connection.closeTimeout = command.ending.bridge.halfCloseTimeout ?? .seconds(EndingOptions.forEver)
    if let interval = command.webSocket.ping {
      connection.keepalive = .init(interval: .seconds(interval), timeout: .seconds(interval))
    }
    var client = WebSocketClientOptions()
    client.headers = headers
    client.timeout = .seconds(command.webSocket.connectTimeout)
    client.handshakeTimeout = client.timeout
    client.connection = connection
    client.tls = try security.client()
    client.proxy = try security.proxyChoice()
    client.maxRedirects = security.followRedirects
    client.extensions = command.webSocket.extensions
    interruption = Interruption()
    tls = source.servesTLS || target.servesTLS ? try security.server() : nil
    let origins = command.webSocket.originPolicy
    let answers = try command.webSocket.responseHeaders(
      of: source.isBroadcast || target.isBroadcast ? EventSource.reservedFields : HandshakeHeaders.reserved)
    var service = EventService(headers: answers, origins: origins, credentials: credentials, diagnostics)
    service.server.tls = tls
    service.server.proxyProtocolFrom = balancing.networks
    opener = EndpointOpener(
      client: client, protocols: command.webSocket.protocols, appends: command.append, events: command.events,
      service: service,
      commands: CommandRunner(
        ending: command.commands.ending, interruption: interruption, user: credentials.asked?.user),
      topics: TopicOpener(
        command.topics, event: command.events.event, writesJSON: command.events.json,
        maxMessage: command.webSocket.givenMaxMessage, tls: client.tls, diagnostics),
      reconnection: command.reconnecting.reconnect
        ? Reconnection(
          client: client, protocols: command.webSocket.protocols, framing: command.framing.framing,
          maxDelay: .seconds(command.reconnecting.maxReconnectDelay), diagnostics: diagnostics) : nil)
    var server = WebSocketServerOptions()
    server.protocols = command.webSocket.protocols
    server.connection = connection
    server.extensions = command.webSocket.extensions
    server.origins = origins
    server.proxyProtocolFrom = balancing.networks
    server.onRequest = { request in
      try credentials.check(request)
      return WebSocketAcceptance(headers: answers)
    }
    if case .listenWebSocket = source { server.tls = tls }
    self.server = server
    self.diagnostics = diagnostics
    connector = Connector(command, interruption: interruption)
  }

  func run() async throws {
    do { try await connect() } catch {
      await opener.topics.close()
      throw error
    }
    await opener.topics.close()
  }

  private func connect() async throws {
    interruption.watch()
    defer { connector.progress?.finish(diagnostics) }
    let reporter = connector.progress.map { progress in Task { try await progress.report(diagnostics) } }
    defer { reporter?.cancel() }
    switch source {
    case .listenWebSocket(let url) where target.isTopic:
      try await topicService?.serveWebSockets(url, server)
    case .broadcast(let url): try await topicService?.serveEvents(url, opener.service)
    case .topic where target.isBroadcast:
      guard case .broadcast(let url) = target else { return }
      try await topicService?.serveEvents(url, opener.service)
    case .listenWebSocket(let url):
      let listening = try await WebSocketServer.listen(url, options: server)
      listening.onExhaustion(tellOfExhaustion)
      diagnostics.notice("listening on \(listening.url)")
      try await serve(listening.connections, open: { await Visit($0) })
    case .listenTCP(let host, let port):
      let listener = try await TCP.listen(host, port: port)
      listener.onExhaustion(tellOfExhaustion)
      diagnostics.notice("listening on tcp://\(listener.name)")
      try await serve(
        listener,
        open: { socket in try await interruption.cancelling { await Visit(socket, from: try await origin(of: socket)) }
        })
    case .listenTLS(let host, let port):
      guard let tls else { return }
      let listener = try await TCP.listen(host, port: port)
      listener.onExhaustion(tellOfExhaustion)
      diagnostics.notice("listening on tls://\(listener.name)")
      try await serve(
        listener,
        open: { socket in
          try await interruption.cancelling {
            let origin = try await origin(of: socket)
            return await Visit(try await tls.accept(over: socket), from: origin)
          }
        })
    case .listenUnix(let path):
      let listener = try await UnixSocket.listen(path)
      listener.onExhaustion(tellOfExhaustion)
      diagnostics.notice("listening on unix:\(path)")
      try await serve(listener, open: { await Visit($0) })
    case .standardIO where target == .standardIO:
      // What `cat` does: standard input goes to standard output, and nothing comes back.
      try await connector.connect(.source(StandardStream.input()), .sink(opener.standardOutput()))
    default:
      let opened = try await opener.open(source, as: .source)
      if case .source = opened, target == .standardIO {
        // It takes nothing: standard input is left to others.
        return try await connector.connect(opened, .sink(opener.standardOutput()))
      }
      diagnostics.verbose("\(source.name) is open")
      if target == .standardIO && hasNoInput { return try await connector.connect(opened, receiving()) }
      let other: OpenEndpoint
      do { other = try await openTarget() } catch {
        opened.giveUp(error)
        throw error
      }
      diagnostics.verbose("\(target.name) is open")
      try await connector.connect(opened, other)
    }
  }

  /// Gives each connection a target of its own. Standard input can be given once: then one connection is served, as `nc -l` does.
  private func serve<Connection: Sendable>(
    _ connections: any ReadableStream<Connection>,
    open endpoint: @escaping @Sendable (Connection) async throws -> Visit
  ) async throws {
    let stop = interruption.add { connections.cancel(nil) }
    defer { interruption.remove(stop) }
    if target == .standardIO {
      guard let opened = try await first(of: connections, open: endpoint) else { return }
      return try await connector.connect(
        opened, hasNoInput ? receiving() : try await opener.open(target, as: .target))
    }
    try await withThrowingDiscardingTaskGroup { group in
      while let connection = try await connections.read() {
        diagnostics.verbose("accepted a connection")
        group.addTask(executorPreference: UVLoop.shared) {
          do { try await serve(await endpoint(connection)) } catch {
            if !(error is CancellationError) { diagnostics.notice("connection failed: \(error)") }
          }
        }
      }
    }
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
          } catch {
            if !(error is CancellationError) { diagnostics.notice("connection failed: \(error)") }
          }
        }
      }
      group.cancelAll()
    }
    return chosen.connection
  }

  /// Where what is received goes, when nothing is sent.
  private func receiving() -> OpenEndpoint {
    // A command finds the end of its input, as one that is started so itself.
    if case .exec = source { return .bytes(opener.standardOutputWithoutInput()) }
    diagnostics.verbose("standard input is not read; receiving only")
    return .sink(opener.standardOutput())
  }

  private func tellOfExhaustion(_ error: any Error) { diagnostics.tellOfExhaustion(error) }

  /// For a topic and what serves it.
  private var topicService: TopicService? {
    let topic: TopicURL
    switch (source, target) {
    case (.topic(let url), _), (_, .topic(let url)): topic = url
    default: return nil
    }
    return TopicService(topic: topic, opener: opener.topics, interruption: interruption, diagnostics: diagnostics)
  }

  private func openTarget(for connection: CGIVariables? = nil) async throws -> OpenEndpoint {
    // What opens at once is not left to another task: a WebSocket's messages and the Close behind them may be here already, and once that
    // is answered nothing can be given back.
    guard RegularFile.mayWait(toOpen: target) else {
      return try await opener.open(target, as: .target, for: connection)
    }
    return try await interruption.cancelling { try await opener.open(target, as: .target) }
  }

  /// What a load balancer says of a connection, which is behind that then.
  private func origin(of socket: SocketStream) async throws -> IPAddress? {
    let origin = try await balancing.origin(of: socket)
    if let origin { diagnostics.verbose("client address: \(origin)") }
    return origin
  }

  /// One connection of a server, with a target of its own.
  private func serve(_ visit: Visit) async throws {
    let opened: OpenEndpoint
    do { opened = try await openTarget(for: visit.variables) } catch {
      visit.endpoint.giveUp(error)
      throw error
    }
    try await connector.connect(visit.endpoint, opened)
    diagnostics.verbose("connection ended")
  }
}

extension OpenEndpoint {
  /// Ends what is open and can't be used.
  func giveUp(_ reason: any Error) {
    switch self {
    case .bytes(let stream):
      stream.abort(reason)
      stream.cancel(reason)
    case .source(let stream): stream.cancel(reason)
    case .sink(let stream): stream.abort(reason)
    case .messageSource(let stream): stream.cancel(reason)
    case .messageSink(let stream): stream.abort(reason)
    case .messages(let endpoint): endpoint.giveUp(reason)
    case .echo: break
    }
  }
}
