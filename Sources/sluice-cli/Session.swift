import Sluice
import SluiceHTTP
import SluiceIO
import SluiceWebSocket

/// One run of the tool: opens the endpoints and connects them, or serves.
struct Session: Sendable {
  private let source: Endpoint
  /// Of a server with routes, the first of these if there is no other.
  private let target: Endpoint
  private let opener: EndpointOpener
  private let service: Service
  private let diagnostics: Diagnostics
  private let interruption: Interruption
  /// Whether the window of a command's terminal is that of the user's.
  private let followsWindow: Bool
  /// Where metrics are served, if they are.
  private let metricsAddress: String?

  /// - Throws: `UsageError` for a command line that can't be carried out, before anything is opened.
  init(_ command: SluiceCommand, diagnostics: Diagnostics) throws {
    let inherited: InheritedSocket?
    let named: Endpoint?
    if let (endpoint, socket) = try InheritedSocket.endpoint(command.source) {
      (source, inherited, named) = (endpoint, socket, try command.target.map { try Endpoint($0) })
    } else {
      source = try Endpoint(command.source)
      // What sends events to all who listen stands second.
      let given = try command.target.flatMap { try InheritedSocket.endpoint($0) }.flatMap {
        $0.0.isBroadcast ? $0 : nil
      }
      inherited = given?.1
      named = try given?.0 ?? command.target.map { try Endpoint($0) }
    }
    let isRouting =
      !(command.serving.routes.isEmpty && command.serving.folders.isEmpty && command.serving.health == nil)
    let destinations = try command.serving.destinations(
      named ?? (isRouting ? nil : .standardIO), below: source.listeningPath)
    target = destinations.endpoints.first ?? .null
    guard !source.isBroadcast || target.isTopic else {
      throw UsageError("listen+sse+… can only be written: write it second, sluice SOURCE \(command.source)")
    }
    for endpoint in destinations.endpoints {
      if endpoint.isListener { throw UsageError("a listening endpoint comes first: sluice \(endpoint.name)… TARGET") }
      if endpoint.isMeetingPlace && !source.isListener {
        throw UsageError(
          "\(endpoint.name) needs a listening endpoint before it: sluice listen+ws://HOST:PORT \(endpoint.name)")
      }
      if endpoint.isBroadcast && isRouting { throw UsageError("\(endpoint.name) can't stand at a route") }
    }
    if source.isDatagrams || source.isPackets, destinations.endpoints.contains(where: \.isMeetingPlace) {
      throw UsageError(
        "\(source.name) can't be connected to \(target.name): rooms and what is shared are for WebSockets and byte streams"
      )
    }
    if command.serving.loops > 1, destinations.endpoints.contains(.standardIO) {
      throw UsageError(
        "--loops does not apply to \(source.name) with '-', which takes one connection; 'shared:-' takes many")
    }
    if source.isMeetingPlace {
      throw UsageError("\(source.name) comes second: sluice listen+ws://HOST:PORT \(source.name)")
    }
    if let file = RegularFile.written(by: target), RegularFile.read(by: source) == file {
      throw UsageError("\(source.name) and \(target.name) are the same file, which can't be read while it is written")
    }
    // What a service or a job in the background finds as its input is no answer to what it reads: it must not end that. An input that was
    // named is.
    let hasNoInput =
      command.noInput || source.isTopic || source.isReplay && command.recording.speed != .step
      || (source.isRemote || source.isListener) && StandardDescriptors.hasNoInput
    if let inherited, inherited.wasStandard, destinations.endpoints.contains(.standardIO) {
      throw UsageError("'-' is the connection itself here: name a TARGET")
    }
    if let inherited, inherited.isUnix, !command.serving.allowed.isEmpty {
      throw UsageError(
        "--allow does not apply to \(source.name) on a Unix socket: its clients have no addresses")
    }
    try Self.checkRecordings(command.recording, source, destinations)
    try OptionScope.check(SluiceCommand.arguments, source, destinations)
    if target.isBroadcast { _ = try Route(target.listeningPath, source) }
    if command.events.event == TopicService.lossEvent, target.isTopic {
      throw UsageError("--event \(TopicService.lossEvent) is what clients are told by; choose another type")
    }
    let balancing = command.balancing
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
    command.network.apply(to: &client.connect)
    client.maxRedirects = security.followRedirects ?? 0
    client.extensions = command.webSocket.extensions
    interruption = Interruption()
    let tls = source.servesTLS || target.servesTLS ? try security.server() : nil
    let origins = command.webSocket.originPolicy
    let answers = try command.webSocket.responseHeaders(
      of: source.isBroadcast || target.isBroadcast ? EventSource.reservedFields : HandshakeHeaders.reserved)
    let notice = ListeningNotice(
      servesConnection: inherited?.listens == false, interruption: interruption, diagnostics: diagnostics)
    var events = EventService(headers: answers, origins: origins, credentials: credentials, notice)
    events.server.tls = tls
    events.server.proxyProtocolFrom = balancing.networks
    command.serving.apply(to: &events.server.listen)
    events.server.descriptor = inherited?.descriptor
    let metrics = command.serving.metrics.map { _ in Metrics() }
    metricsAddress = command.serving.metrics
    if let metrics {
      events.server.observer = HTTPCounting(metrics)
      events.events.observer = EventCounting(metrics)
    }
    let gatherings = Gatherings(command.serving.whenSlow, framing: command.framing.framing, metrics)
    // A command in a terminal of its own is the user's, in the user's terminal; what others send there is shown, and not obeyed, unless asked for.
    let isPassedThrough =
      command.commands.raw
      || source.isTerminal && target == .standardIO || source == .standardIO && target.isTerminal
    let passedTerminal = isPassedThrough ? PassedTerminal() : nil
    followsWindow = command.commands.window == nil
    let greeting = Greeting(
      command.webSocket.greetings, framing: command.framing.framing, kind: command.framing.kind)
    opener = EndpointOpener(
      client: client, protocols: command.webSocket.protocols, appends: command.append, request: command.request,
      events: command.events, redirects: security.followRedirects,
      datagrams: DatagramMessages(kind: command.framing.kind), patience: .seconds(command.ending.answerTimeout),
      service: events,
      commands: CommandRunner(
        ending: command.commands.ending, baud: command.commands.baud, interruption: interruption,
        user: credentials.asked?.user),
      topics: TopicOpener(
        command.topics, event: command.events.event, writesJSON: command.events.json,
        maxMessage: command.webSocket.givenMaxMessage,
        tls: TopicTLS(
          context: client.tls, authorities: security.ca, certificate: security.clientCert,
          key: security.key ?? security.clientCert), diagnostics),
      gatherings: gatherings,
      reconnection: command.reconnecting.reconnect
        ? Reconnection(
          client: client, protocols: command.webSocket.protocols, framing: command.framing.framing,
          maxDelay: .seconds(command.reconnecting.maxReconnectDelay), greeting: greeting, diagnostics: diagnostics)
        : nil,
      greeting: greeting, recordings: command.recording, passedTerminal: passedTerminal,
      window: command.commands.window?.size ?? PassedTerminal.window ?? ChildProcess.WindowSize(),
      diagnostics: diagnostics)
    let recorder = Recorder(command.recording, source: source, target: target)
    var server = WebSocketServerOptions()
    server.protocols = command.webSocket.protocols
    server.connection = connection
    server.extensions = command.webSocket.extensions
    server.origins = origins
    server.proxyProtocolFrom = balancing.networks
    command.serving.apply(to: &server.listen)
    server.descriptor = inherited?.descriptor
    server.connection.idleTimeout = command.serving.idleTimeout.map { .seconds($0) }
    let connector = Connector(
      command, source: source,
      speaksJSON: command.events.json && !([source] + destinations.endpoints).contains(where: \.isFeed),
      recorder: recorder, metrics, interruption: interruption, diagnostics)
    let isBareEcho = destinations.target == .echo && connector.isPlain
    let servesRoutes = destinations.areHTTP || command.serving.loops > 1 && !isBareEcho
    server.connection.observer = metrics.map { WebSocketCounting($0, countsConnections: !servesRoutes) }
    // Where there is nothing to ask, a handshake needs no task.
    if credentials.asked != nil || answers.contains(where: { _ in true }) {
      server.onRequest = { request in
        try credentials.check(request)
        return WebSocketAcceptance(headers: answers)
      }
    }
    if case .listenWebSocket = source { server.tls = tls }
    self.diagnostics = diagnostics
    self.service = Service(
      source: source, destinations: destinations, opener: opener,
      connector: connector, options: server,
      tls: tls,
      balancing: balancing,
      gatherings: gatherings, hasNoInput: hasNoInput, passesPath: command.serving.passPath, credentials: credentials,
      responseHeaders: answers,
      maxDatagramPeers: command.serving.maxConnections ?? DatagramSessions.usualMaxCount,
      socketMode: command.serving.socketMode,
      socketOwner: try command.serving.socketOwner.map { try SocketOwner($0) },
      servesRoutes: servesRoutes, metrics: metrics,
      notice: notice, diagnostics: diagnostics, interruption: interruption)
  }

  /// A file that is read can't be written anew with what is read of it, nor have two writers.
  private static func checkRecordings(
    _ options: RecordingOptions, _ source: Endpoint, _ destinations: Destinations
  ) throws(UsageError) {
    if let record = options.record, record == options.log {
      throw UsageError("--record and --log can't write the same file")
    }
    for case (let option, let path?) in [("--record", options.record), ("--log", options.log)] {
      guard let file = RegularFile.written(by: .file(path: path)) else { continue }
      for endpoint in [source] + destinations.endpoints
      where RegularFile.read(by: endpoint) == file || RegularFile.written(by: endpoint) == file {
        throw UsageError("\(option) can't write the file of \(endpoint.name)")
      }
    }
  }

  func run() async throws {
    let result: Result<Void, any Error>
    do { result = .success(try await connect()) } catch { result = .failure(error) }
    await opener.topics.close()
    // What was recorded is written, also of a run that has failed.
    do { try await service.connector.recorder?.close() } catch {
      try result.get()
      throw error
    }
    try result.get()
  }

  private func connect() async throws {
    interruption.watch()
    let connector = service.connector
    var metrics: Task<Void, any Error>?
    if let metricsAddress { metrics = try await service.metrics?.serve(at: metricsAddress, diagnostics) }
    defer { metrics?.cancel() }
    try await connector.recorder?.open()
    defer { connector.progress?.finish(diagnostics) }
    let reporter = connector.progress.map { progress in Task { try await progress.report(diagnostics) } }
    defer { reporter?.cancel() }
    switch (source, target) {
    case (.broadcast(let url), .topic(let topic)), (.topic(let topic), .broadcast(let url)):
      return try await service.serveEvents(url, of: topic)
    case (_, _) where source.isListener: return try await service.run()
    default: break
    }
    if source == .standardIO && target == .standardIO {
      // What `cat` does: standard input goes to standard output, and nothing comes back.
      return try await connector.connect(.source(StandardStream.input()), .sink(opener.standardOutput()))
    }
    let opened = try await opener.open(source, as: .source)
    if case .source = opened, target == .standardIO {
      // It takes nothing: standard input is left to others.
      return try await connector.connect(opened, .sink(opener.standardOutput()))
    }
    diagnostics.verbose("\(source.name) is open")
    if target == .standardIO && service.hasNoInput { return try await connector.connect(opened, receiving()) }
    let other: OpenEndpoint
    do { other = try await openTarget() } catch {
      opened.giveUp(error)
      throw error
    }
    if let terminal = opener.passedTerminal {
      for case .bytes(let stream) in [opened, other] {
        if followsWindow, let child = stream as? ChildProcess { terminal.resize(child) }
      }
      terminal.begin()
    }
    diagnostics.verbose("\(target.name) is open")
    try await connector.connect(opened, other)
  }

  /// The exit status of a command in a terminal, which is ours too; nil for other ends.
  func commandStatus(_ error: any Error) -> Int32? {
    guard source.isTerminal || target.isTerminal, !source.isListener else { return nil }
    switch error {
    case ChildProcessError.exited(_, let status): return Int32(clamping: status)
    case ChildProcessError.signalled(_, let signal): return 128 + signal
    default: return nil
    }
  }

  /// Where what is received goes, when nothing is sent.
  private func receiving() -> OpenEndpoint {
    // A command finds the end of its input, as one that is started so itself.
    if case .exec = source { return .bytes(opener.standardOutputWithoutInput()) }
    return service.receiving()
  }

  private func openTarget() async throws -> OpenEndpoint {
    guard RegularFile.mayWait(toOpen: target) else { return try await opener.open(target, as: .target) }
    let length = RegularFile.bytesLeft(in: source)
    return try await interruption.cancelling { try await opener.open(target, as: .target, length: length) }
  }
}
