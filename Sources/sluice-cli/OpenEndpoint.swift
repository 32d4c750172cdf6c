import Sluice
import SluiceIO
import SluiceStreams

typealias ByteStream = any DuplexStream<Bytes, Bytes>

/// An endpoint that was opened: what it is a stream of.
enum OpenEndpoint: Sendable {
  case bytes(ByteStream)
  /// Bytes in one direction only: a file that is read, events.
  case source(any ReadableStream<Bytes>)
  /// A file that is written, those who listen to events.
  case sink(any WritableStream<Bytes>)
  case messages(MessageEndpoint)
  /// The messages of a topic.
  case messageSource(any ReadableStream<Message>)
  /// A topic that messages are appended to.
  case messageSink(any WritableStream<Message>)
  case echo
  /// Where several connections hear the same.
  case room(Room)
}

/// Opens endpoints as the command line has them.
struct EndpointOpener: Sendable {
  let client: WebSocketClientOptions
  let protocols: [String]
  let appends: Bool
  let request: RequestCommandOptions
  let events: EventCommandOptions
  /// Redirects of http: to follow; nil for the usual.
  let redirects: Int?
  let datagrams: DatagramMessages
  /// For how long datagrams are awaited when nothing more is sent.
  let patience: Duration
  let service: EventService
  let commands: CommandRunner
  let topics: TopicOpener
  let gatherings: Gatherings
  /// nil if what is lost is lost.
  let reconnection: Reconnection?
  let greeting: Greeting
  let recordings: RecordingOptions
  /// The user's own terminal, if it is passed through.
  let passedTerminal: PassedTerminal?
  /// Of the terminals of commands.
  let window: ChildProcess.WindowSize
  let diagnostics: Diagnostics

  enum Role {
    case source, target
  }

  /// - Parameters:
  ///   - visit: The connection that it is opened for, if it is, of which a command is told.
  ///   - length: Bytes of what it will be sent, if that is known.
  ///   - loop: Where connections of WebSockets, TCP, TLS and Unix sockets live.
  func open(
    _ endpoint: Endpoint, as role: Role, for visit: Visit? = nil, length: Int? = nil, on loop: UVLoop = .shared
  ) async throws -> OpenEndpoint {
    switch endpoint {
    case .standardIO: return .bytes(standardIO())
    case .webSocket(let url):
      if let reconnection { return try await reconnection.webSocket(url) }
      let asksForTerminal = passedTerminal != nil && protocols.isEmpty
      let socket = try await WebSocket.connect(
        url, protocols: asksForTerminal ? [TerminalProtocol.name] : protocols, options: client, on: loop)
      try await greeting.say(to: socket)
      return asksForTerminal && socket.protocol == TerminalProtocol.name
        ? .bytes(FarTerminal(socket)) : .messages(.socket(socket))
    case .tcp(let host, let port): return try await connect(Origin(host: host, port: port, isSecure: false), on: loop)
    case .tls(let host, let port): return try await connect(Origin(host: host, port: port, isSecure: true), on: loop)
    case .udp(let host, let port):
      return datagrams(try await DatagramSocket.connect(host, port: port, options: client.connect.tcp))
    case .unixDatagram(let path): return datagrams(try await DatagramSocket.connect(path: path))
    case .unixPackets(let path):
      let socket = try await DatagramSocket.connectPackets(path, timeout: client.timeout)
      return .messages(.other(PacketStream(socket, datagrams)))
    case .unix(let path): return try await connect(Origin(host: "localhost", port: 0, isSecure: false), path, on: loop)
    case .file(let path):
      let path = FilePath(path)
      switch role {
      case .source: return .source(try await File.open(path))
      case .target: return .sink(try await appends ? File.append(path) : File.create(path))
      }
    case .replay(let path):
      let side = recordings.play ?? (role == .source ? .source : .target)
      let replay = try await Replay(path, as: side, recordings, diagnostics)
      return replay.movesMessages ? .messages(.other(replay.messages)) : .bytes(replay.bytes)
    case .pty(let command): return .bytes(try await commands.terminal(command, window, for: visit))
    case .serial(let path): return .bytes(try await SerialLine.open(path, baud: commands.baud))
    case .exec(let command): return .bytes(try await commands.run(command, for: visit))
    case .eventSource(let url):
      guard role == .source else { throw UsageError("an event stream can only be read: write it first") }
      return .source(try await events.source(url, request, client, reconnection))
    case .http(let url):
      return try await request.open(url, as: role, client, redirects: redirects, length: length, diagnostics)
    case .broadcast(let url):
      guard role == .target else {
        throw UsageError("listen+sse+… can only be written: write it second, sluice SOURCE listen+sse+http://…")
      }
      return .sink(try await events.broadcast(url, service, gatherings.slow))
    case .topic(let url): return role == .source ? try await topics.source(url) : try await topics.sink(url)
    case .echo: return .echo
    // As a file that is empty: it neither answers nor ends the other direction.
    case .null: return role == .source ? .source(SequenceStream([])) : .sink(DiscardingSink<Bytes>(on: UVLoop.shared))
    case .room(let name): return .room(gatherings.room(name))
    case .shared(let endpoint):
      guard let room = gatherings.room(of: endpoint) else { throw StreamError.closed }
      return .room(room)
    case .listenWebSocket, .listenTCP, .listenTLS, .listenUnix, .listenUDP, .listenUnixDatagram, .listenUnixPackets:
      throw UsageError("a listening endpoint comes first: sluice listen+… TARGET")
    }
  }

  private func datagrams(_ socket: DatagramSocket) -> OpenEndpoint {
    .messages(.other(DatagramStream(socket, datagrams, patience: patience)))
  }

  private func connect(_ origin: Origin, _ unixSocket: String? = nil, on loop: UVLoop) async throws -> OpenEndpoint {
    var options = client.connect
    // What the environment says of proxies is for HTTP and what begins as HTTP.
    if unixSocket != nil { options.proxy = .none } else if case .environment = client.proxy { options.proxy = .none }
    options.unixSocket = unixSocket
    if let reconnection { return try await reconnection.bytes(origin, options) }
    let stream = try await Connect.open(origin, options: options, on: loop)
    try await greeting.say(to: stream)
    return .bytes(stream)
  }

  /// Standard output and an input that has ended.
  func standardOutputWithoutInput() -> ByteStream {
    JoinedStream(reading: SequenceStream<Bytes>([]), writing: AnyWritable(standardOutput()))
  }

  private func standardIO() -> ByteStream {
    let output = StandardStream.output()
    return output.isTerminal && passedTerminal == nil
      ? JoinedStream(
        reading: StandardStream.input(), writing: output.behind(TerminalEscape()), endsWithReader: true) : StandardIO()
  }

  /// What a peer sends to a terminal is shown, never obeyed, unless the terminal is passed through.
  func standardOutput() -> any WritableStream<Bytes> {
    let output = StandardStream.output()
    return output.isTerminal && passedTerminal == nil ? output.behind(TerminalEscape()) : output
  }
}

extension OpenEndpoint {
  /// Ends it as if its peer had ended.
  func endInOrder() {
    switch self {
    case .bytes(let stream): stream.cancel(nil)
    case .source(let stream): stream.cancel(nil)
    case .messageSource(let stream): stream.cancel(nil)
    case .messages(let endpoint): endpoint.endInOrder()
    case .sink, .messageSink, .echo, .room: break
    }
  }

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
    case .echo, .room: break
    }
  }
}
