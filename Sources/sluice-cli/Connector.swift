import Sluice
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol
import Synchronization

/// Connects two open endpoints, by the options of the command line.
struct Connector: Sendable {
  private let framing: MessageFraming
  private let kind: MessageKind
  private let form: LineForm
  private let maxMessage: Int
  /// How WebSockets are closed; nil for the usual.
  private let close: (code: CloseCode, reason: String)?
  /// How often the round trip to a WebSocket's peer is told.
  private let pingInterval: Duration?
  private let diagnostics: Diagnostics
  private let limitsMessages: Bool
  private let bridgeOptions: BridgeOptions
  private let linger: Duration
  private let oneMessage: Bool
  /// Whether our Close waits only for the answer to our one message.
  private let waitsForAnswer: Bool
  private let interruption: Interruption
  let progress: Progress?
  let recorder: Recorder?
  /// What counts what clients of ours say and are told; nil also where these are WebSockets, which count it themselves.
  private let metrics: Metrics?
  private let roomMetrics: Metrics?
  /// When a connection that is silent ends.
  private let silenceLimit: SilenceLimit?

  /// Whether nothing is asked for between a source and its sink.
  var isPlain: Bool {
    progress == nil && recorder == nil && !oneMessage && linger == .zero && silenceLimit == nil && close == nil
      && pingInterval == nil
  }

  init(
    _ command: SluiceCommand, source: Endpoint, speaksJSON: Bool, recorder: Recorder?, _ metrics: Metrics?,
    interruption: Interruption, _ diagnostics: Diagnostics
  ) {
    self.metrics = source.isListener && !source.isMessageBased ? metrics : nil
    roomMetrics = metrics
    self.diagnostics = diagnostics
    form = LineForm(
      content: command.framing.base64 ? .base64 : speaksJSON ? .json : .plain,
      hasTime: command.framing.timestamps)
    close = command.webSocket.close
    pingInterval = diagnostics.isVerbose ? command.webSocket.ping.map { .seconds($0) } : nil
    self.recorder = recorder
    framing = command.framing.framing
    kind = command.framing.kind
    maxMessage = command.webSocket.maxMessage
    limitsMessages = maxMessage != MessageAssembler.defaultMaxMessageSize
    var options = command.ending.bridge
    // One message out and one back: the answer may come after our end.
    waitsForAnswer = command.webSocket.oneMessage && options.onEnd == .afterAnswer
    if waitsForAnswer { options.onEnd = .defer }
    bridgeOptions = options
    linger = .seconds(command.ending.linger)
    oneMessage = command.webSocket.oneMessage
    progress = command.progress ? Progress() : nil
    self.interruption = interruption
    // A WebSocket of a server sees to that itself, and says why it closes.
    let cut = source.isMessageBased || source.isDatagrams ? nil : command.serving.idleTimeout
    silenceLimit =
      command.ending.quietAfter.map { .ends(after: .seconds($0)) } ?? cut.map { .cuts(after: .seconds($0)) }
  }

  func connect(_ source: OpenEndpoint, _ target: OpenEndpoint) async throws {
    var passage = Passage()
    do { passage.recording = try await recorder?.connection() } catch {
      for endpoint in [source, target] { endpoint.giveUp(error) }
      throw error
    }
    guard let silenceLimit else { return try await connect(source, target, passage) }
    let silence = Silence()
    passage.silence = silence
    let noted = passage
    let hasIdled = Atomic(false)
    let watch = Task(executorPreference: UVLoop.shared) {
      try await silence.wait(for: silenceLimit.time)
      switch silenceLimit {
      case .ends: for endpoint in [source, target] { endpoint.endInOrder() }
      case .cuts(let time):
        hasIdled.store(true, ordering: .relaxed)
        source.giveUp(IdleConnection(limit: time))
      }
    }
    defer { watch.cancel() }
    let result: Result<Void, any Error>
    do { result = .success(try await connect(source, target, noted)) } catch {
      result = .failure(error)
    }
    if hasIdled.load(ordering: .relaxed) { throw IdleConnection(limit: silenceLimit.time) }
    try result.get()
  }

  /// What is noted of one connection as it passes.
  private struct Passage: Sendable {
    var silence: Silence?
    var recording: ConnectionRecording?
  }

  private func connect(_ source: OpenEndpoint, _ target: OpenEndpoint, _ passage: Passage) async throws {
    switch (source, target) {
    case (_, .room(let room)): try await join(source, room, passage)
    case (.messages(let a), .messages(let b)): try await join(ends(of: a), ends(of: b), sockets: [a, b], passage)
    case (.messages(let a), .messageSource), (.messages(let a), .messageSink):
      try await join(ends(of: a), messages(of: target), sockets: [a], passage)
    case (.messageSource, .messages(let b)), (.messageSink, .messages(let b)):
      try await join(messages(of: source), ends(of: b), sockets: [b], passage)
    case (.messageSource, .messageSink):
      try await join(messages(of: source), messages(of: target), sockets: [], passage)
    case (.messages(let a), .echo): try await echo(ends(of: a), at: .source, sockets: [a], passage)
    case (.echo, .messages(let b)): try await echo(ends(of: b), at: .target, sockets: [b], passage)
    case (.messages(let a), _):
      if let ends = byteEnds(of: a) { return try await join(ends, bytes(of: target), sockets: [a], passage) }
      try await join(ends(of: a), messages(of: target), sockets: [a], passage)
    case (_, .messages(let b)):
      if let ends = byteEnds(of: b) { return try await join(bytes(of: source), ends, sockets: [b], passage) }
      try await join(messages(of: source), ends(of: b), sockets: [b], passage)
    case (.bytes, .echo): try await echo(bytes(of: source), at: .source, sockets: [], passage)
    case (.echo, .bytes): try await echo(bytes(of: target), at: .target, sockets: [], passage)
    default: try await join(bytes(of: source), bytes(of: target), sockets: [], passage)
    }
  }

  // MARK: what an endpoint reads and writes

  /// What an endpoint gives and takes; nil where it has no such half.
  private struct Ends<Element: Sendable & ByteCounted>: Sendable {
    var readable: (any ReadableStream<Element>)?
    var writable: (any WritableStream<Element>)?
    var endsAsOne = false
    var endsWithReader = false

    init(_ duplex: any DuplexStream<Element, Element>) {
      // The halves themselves, where they are streams of their own: they have their gear.
      readable = (duplex as? any SplitReadable<Element>)?.readableHalf ?? duplex
      writable = (duplex as? any SplitWritable<Element>)?.writableHalf ?? duplex
      endsAsOne = duplex.endsAsOne
      endsWithReader = duplex.endsWithReader
    }

    init(
      readable: (any ReadableStream<Element>)? = nil, writable: (any WritableStream<Element>)? = nil,
      endsAsOne: Bool = false, endsWithReader: Bool = false
    ) {
      self.readable = readable
      self.writable = writable
      self.endsAsOne = endsAsOne
      self.endsWithReader = endsWithReader
    }

    /// For a bridge, where both halves are there.
    func joined() -> JoinedStream<AnyReadable<Element>, AnyWritable<Element>>? {
      guard let readable, let writable else { return nil }
      return JoinedStream(
        reading: AnyReadable(readable), writing: AnyWritable(writable), endsAsOne: endsAsOne,
        endsWithReader: endsWithReader)
    }
  }

  private func ends(of endpoint: MessageEndpoint) -> Ends<Message> {
    var ends = Ends(endpoint.stream)
    if let close, case .socket(let socket) = endpoint {
      ends.writable = ClosingSocket(socket: socket, code: close.code, reason: close.reason)
    }
    return ends
  }

  private func bytes(of endpoint: OpenEndpoint) -> Ends<Bytes> {
    switch endpoint {
    case .bytes(let stream): Ends(stream)
    case .source(let stream): Ends(readable: stream)
    case .sink(let stream): Ends(writable: stream)
    case .messageSource(let stream): Ends(readable: encoded(stream))
    case .messageSink(let stream): Ends(writable: decoding(stream))
    case .echo, .messages, .room: Ends(readable: SequenceStream([]), writable: Writable { _ in })
    }
  }

  /// A WebSocket that passes bytes as they come, so that messages of any length pass in constant memory; nil if messages matter.
  private func byteEnds(of endpoint: MessageEndpoint) -> Ends<Bytes>? {
    // What may have to be sent again is kept as messages, and what is recorded is played back as such.
    guard passesBytes, form.isPlain, close == nil, recorder == nil, case .socket(let socket) = endpoint else {
      return nil
    }
    return Ends(
      readable: socket.parts.map { $0.bytes },
      writable: socket.behind(MessageDecoder(framing, kind: kind, limit: maxMessage)), endsAsOne: true)
  }

  private var passesBytes: Bool {
    switch framing {
    case .none, .chunks: !limitsMessages && !oneMessage
    case .lines, .nullTerminated, .lengthPrefixed, .contentLength, .separated: false
    }
  }

  private func messages(of endpoint: OpenEndpoint) -> Ends<Message> {
    switch endpoint {
    case .messageSource(let stream): return Ends(readable: stream)
    case .messageSink(let stream): return Ends(writable: stream)
    default: break
    }
    let bytes = bytes(of: endpoint)
    return Ends(
      readable: bytes.readable.map { decode($0, as: kind) }, writable: bytes.writable.map { encode($0) },
      endsWithReader: bytes.endsWithReader)
  }

  private func decode(_ stream: some ReadableStream<Bytes>, as kind: MessageKind) -> any ReadableStream<Message> {
    if case .plain = form.content {
      return stream.pipe(through: MessageDecoder(framing, kind: kind, limit: maxMessage))
    }
    return stream.pipe(through: MessageDecoder(framing, kind: .binary, limit: maxMessage)).map { [form] line in
      try form.message(of: line)
    }
  }

  private func encoded(_ stream: some ReadableStream<Message>) -> any ReadableStream<Bytes> {
    form.isPlain
      ? stream.pipe(through: MessageEncoder(framing))
      : stream.pipe(through: LineForming(form)).pipe(through: MessageEncoder(framing))
  }

  private func decoding(_ stream: some WritableStream<Message>) -> any WritableStream<Bytes> {
    stream.behind(MessageDecoder(framing, kind: kind, limit: maxMessage))
  }

  private func encode(_ stream: some WritableStream<Bytes>) -> any WritableStream<Message> {
    let lines = stream.behind(MessageEncoder(framing))
    return form.isPlain ? lines : lines.behind(LineForming(form))
  }

  // MARK: connecting

  private func join<Element: Sendable & ByteCounted & Recordable>(
    _ a: Ends<Element>, _ b: Ends<Element>, sockets: [MessageEndpoint], _ passage: Passage
  ) async throws {
    let (a, b) = (prepare(a, at: .source, sockets, passage), prepare(b, at: .target, sockets, passage))
    try await whileWatching(sockets, cancelling: [a.readable, b.readable]) {
      // A file goes one way only. What comes back from a stream that is written to is dropped.
      var a = a
      if a.writable == nil, b.readable != nil { a.writable = DiscardingSink(on: UVLoop.shared) }
      if let a = a.joined(), let b = b.joined() {
        try await bridge(a, b, options: bridgeOptions)
      } else if let source = a.readable, let sink = b.writable {
        try await pipe(source, sink)
        try await a.writable?.close()
      } else {
        throw UsageError("these two endpoints can't be connected in this order")
      }
      try await checkCloses(sockets)
    }
  }

  /// A Close whose code is the application's own ends the data well, and is told by the exit status.
  private func checkCloses(_ sockets: [MessageEndpoint]) async throws {
    for case .socket(let socket) in sockets {
      guard let (code, reason) = socket.closeStatus, (3000...4999).contains(code.rawValue) else { continue }
      throw WebSocketError.closed(code, reason: reason)
    }
  }

  private func pipe<Element: Sendable>(
    _ source: any ReadableStream<Element>, _ sink: any WritableStream<Element>
  ) async throws {
    do { try await source.pipe(sink) } catch StreamError.closed {
      // Whoever read has had enough.
    }
  }

  private func echo<Element: Sendable & ByteCounted & Recordable>(
    _ ends: Ends<Element>, at side: Side, sockets: [MessageEndpoint], _ passage: Passage
  ) async throws {
    let ends = prepare(ends, at: side, sockets, passage)
    guard var readable = ends.readable, let writable = ends.writable else { return }
    // What it returns comes from the other side.
    if let recording = passage.recording { readable = recorded(readable, from: side.other, in: recording) }
    if let metrics { readable = counted(readable) { metrics.didSend($0, isMessage: $1) } }
    let source = readable
    try await whileWatching(sockets, cancelling: [source]) {
      try await pipe(source, writable)
      try await checkCloses(sockets)
    }
  }

  // MARK: rooms

  /// Lets a connection hear what is said in a room, and say something itself, until it ends or the room does.
  private func join(_ endpoint: OpenEndpoint, _ room: Room, _ passage: Passage) async throws {
    switch endpoint {
    case .messages(.socket(let socket)):
      try await join(room, Ends(socket), sockets: [.socket(socket)], passage) { try await room.serve(socket, $0) }
    case .bytes(let stream):
      guard let sink = stream as? any PolledWritableStream<Bytes> else { fallthrough }
      let ends = Ends<Message>(
        readable: decode(stream, as: room.isBetweenMembers ? .binary : kind), writable: encode(stream))
      try await join(room, ends, sockets: [], passage) { try await room.serve(sink, $0) }
    default: throw UsageError("only the connections of a listening endpoint can share something")
    }
  }

  private func join(
    _ room: Room, _ ends: Ends<Message>, sockets: [MessageEndpoint], _ passage: Passage,
    _ serve: @escaping @Sendable (() async throws -> Void) async throws -> Void
  ) async throws {
    let ends = prepare(ends, at: .source, sockets, passage)
    guard let readable = ends.readable else { return }
    try await whileWatching(sockets, cancelling: [readable]) {
      do {
        try await serve { try await readable.pipe(Writable { try await room.say($0) }) }
      } catch StreamError.closed {
        // What all share has ended.
      }
      try await ends.writable?.close()
      try await checkCloses(sockets)
    }
  }

  /// An endpoint as what all connections of a server share.
  func share(
    _ endpoint: OpenEndpoint, _ slow: SlowConnection, readsToEnd: Bool, onEnd: @escaping @Sendable () -> Void
  ) async throws -> SharedTarget {
    var ends = if case .messages(let socket) = endpoint { Ends(socket.stream) } else { messages(of: endpoint) }
    // What it gives is everybody's, and is no connection's.
    if let recording = try await recorder?.connection() {
      ends.readable = ends.readable.map { recorded($0, from: .target, in: recording) }
    }
    return SharedTarget(
      slow, framing: framing, roomMetrics, source: ends.readable, sink: ends.writable, readsToEnd: readsToEnd,
      onEnd: onEnd)
  }

  /// Adds what the options ask for between the source of these ends and its sink.
  private func prepare<Element: Sendable & ByteCounted & Recordable>(
    _ ends: Ends<Element>, at side: Side, _ sockets: [MessageEndpoint], _ passage: Passage
  ) -> Ends<Element> {
    var ends = ends
    if let recording = passage.recording {
      ends.readable = ends.readable.map { recorded($0, from: side, in: recording) }
    }
    if let silence = passage.silence { ends.readable = ends.readable.map { noted($0, by: silence) } }
    if let progress { ends.readable = ends.readable.map { counted($0) { progress.add($0, isMessage: $1) } } }
    if let metrics {
      ends.readable = ends.readable.map { readable in
        counted(readable) {
          if side == .source { metrics.didReceive($0, isMessage: $1) } else { metrics.didSend($0, isMessage: $1) }
        }
      }
    }
    if oneMessage {
      ends.readable = ends.readable.map { source in
        first(source) {
          // Nothing was asked.
          guard waitsForAnswer else { return }
          for socket in sockets {
            Task {
              try? await Task.sleep(for: linger)
              try? await socket.stream.close()
            }
          }
        }
      }
    }
    // What ends in both directions at once takes nothing more, however long one stays.
    if linger > .zero && !ends.endsAsOne { ends.readable = ends.readable.map { lingering($0) } }
    return ends
  }

  private func noted<Element: Sendable>(
    _ source: some ReadableStream<Element>, by silence: Silence
  ) -> any ReadableStream<Element> {
    source.map { element in
      silence.end()
      return element
    }
  }

  private func recorded<Element: Recordable>(
    _ source: some ReadableStream<Element>, from side: Side, in recording: ConnectionRecording
  ) -> any ReadableStream<Element> {
    RecordedStream(source, from: side, in: recording)
  }

  private func counted<Element: Sendable & ByteCounted>(
    _ source: some ReadableStream<Element>, _ count: @escaping @Sendable (_ byteCount: Int, _ isMessage: Bool) -> Void
  ) -> any ReadableStream<Element> {
    source.map { element in
      count(element.byteCount, Element.self == Message.self)
      return element
    }
  }

  private func first<Element: Sendable>(
    _ source: some ReadableStream<Element>, orElse onNone: @escaping @Sendable () -> Void
  ) -> any ReadableStream<Element> {
    source.pipe(through: FirstElement(onNone: onNone))
  }

  private func lingering<Element: Sendable>(_ source: some ReadableStream<Element>) -> any ReadableStream<Element> {
    source.endingLater(by: linger)
  }

  // MARK: while it runs

  /// Runs `body`; a signal meanwhile closes what is open.
  private func whileWatching<Element: Sendable>(
    _ sockets: [MessageEndpoint], cancelling sources: [(any ReadableStream<Element>)?],
    _ body: @escaping @Sendable () async throws -> Void
  ) async throws {
    let id = interruption.add {
      // A WebSocket ends in both directions; of anything else, whoever reads is told.
      if !sockets.contains(where: \.endsAsOne) { for source in sources { source?.cancel(nil) } }
      for socket in sockets { Task { try? await socket.goAway() } }
    }
    defer { interruption.remove(id) }
    let pings = pingInterval.map { interval in Task { await tellRoundTrips(of: sockets, every: interval) } }
    defer { pings?.cancel() }
    try await body()
  }

  private func tellRoundTrips(of sockets: [MessageEndpoint], every interval: Duration) async {
    while !Task.isCancelled {
      do {
        try await Task.sleep(for: interval)
        for case .socket(let socket) in sockets {
          let time = try await socket.ping()
          diagnostics.verbose("round trip: \((time / .microseconds(10)).rounded() / 100) ms")
        }
      } catch { return }
    }
  }
}
