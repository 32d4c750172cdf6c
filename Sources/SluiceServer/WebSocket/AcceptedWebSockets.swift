import DequeModule
import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceWebSocket
import SluiceWebSocketProtocol

/// The connections of one listener whose opening handshake is done: a readable stream of WebSockets.
///
/// Handshakes run side by side in the loop's callbacks, each within its time limit, without a task of its own. While nobody
/// reads, connections are not accepted, and wait in the kernel.
final class AcceptedWebSockets: PolledReadableStream, @unchecked Sendable {  // touched on its loop only
  typealias Output = WebSocket

  let listener: SocketListener
  private let path: String?
  private let options: WebSocketServerOptions
  let context: ConnectionContext
  private let counter: ConnectionCounter
  private var opening: [ObjectIdentifier: ServerOpening] = [:]
  private var securing: [ObjectIdentifier: TLSHandshake] = [:]
  /// Connections whose PROXY header is to come.
  private var balanced = 0
  private var ready = Deque<WebSocket>()
  private var isCancelled = false
  private static let maxOpening = 10_000

  init(listener: SocketListener, path: String?, options: WebSocketServerOptions, counter: ConnectionCounter) {
    self.listener = listener
    self.counter = counter
    self.path = path
    self.options = options
    context = ConnectionContext(.server, options.connection, on: listener.loop)
  }

  var loop: any Loop { listener.loop }

  func poll() throws -> Polled<WebSocket> {
    while true {
      if let socket = ready.popFirst() { return .element(socket) }
      switch try listener.poll() {
      case .element(let transport): open(transport)
      case .pending: return ready.popFirst().map { .element($0) } ?? .pending
      case .end:
        if let socket = ready.popFirst() { return .element(socket) }
        // A listener that was given a connection has no other: its handshake may be under way.
        return isOpening && !isCancelled ? .pending : .end
      }
    }
  }

  private var isOpening: Bool { !opening.isEmpty || !securing.isEmpty || balanced > 0 }

  /// A connection was not opened, and may have been the last.
  private func didNotOpen() { if !isOpening { listener.tellReader() } }

  private func open(_ transport: SocketStream) {
    // Beyond this many handshakes and answers that are under way, a connection is cut.
    if opening.count + securing.count + balanced > Self.maxOpening { return transport.abort(StreamError.aborted) }
    let peer = transport.peerAddress?.ipAddress
    guard let peer, options.proxyProtocolFrom.contains(where: { $0.contains(peer) }) else {
      return open(transport, from: peer, within: options.handshakeTimeout)
    }
    let start = loop.now
    balanced += 1
    ProxyProtocol.read(from: transport, timeout: options.handshakeTimeout) { result in
      self.balanced -= 1
      guard case .success(let source) = result else { return self.didNotOpen() }
      self.open(transport, from: source ?? peer, within: self.options.handshakeTimeout - (self.loop.now - start))
    }
  }

  private func open(_ transport: SocketStream, from peer: IPAddress?, within time: Duration) {
    if isCancelled { return transport.abort(StreamError.aborted) }
    var admission = Admission(counter: counter, peer: peer)
    guard let tls = options.tls else { return open(transport, within: time, admission) }
    // A refusal is not worth a TLS handshake.
    do { try admission.enter() } catch { return transport.abort(error) }
    let entered = admission
    let start = loop.now
    // The handshake keeps itself alive through its transport.
    var id: ObjectIdentifier?
    let handshake = TLSHandshake.accept(over: transport, tls, within: time) { result in
      if let id { self.securing[id] = nil }
      // What went wrong concerns the peer alone, which was told.
      guard case .success(let stream) = result else { return self.didNotOpen() }
      self.open(stream, within: time - (self.loop.now - start), entered)
    }
    guard let handshake, handshake.isUnderWay else { return }
    id = ObjectIdentifier(handshake)
    securing[ObjectIdentifier(handshake)] = handshake
  }

  private func open(_ transport: WebSocket.Transport, within time: Duration, _ admission: Admission) {
    let opening = ServerOpening(
      transport: transport, path: path, options: options.handshake, limits: options.headLimits, context: context,
      time: time, admission: admission
    ) { opening, result in
      self.opening[ObjectIdentifier(opening)] = nil
      guard case .success(let socket) = result else { return self.didNotOpen() }
      self.ready.append(socket)
      self.listener.tellReader()
    }
    self.opening[ObjectIdentifier(opening)] = opening
    opening.start()
  }

  func attachReader(_ waker: any Waker) throws { try listener.attachReader(waker) }
  var hasReader: Bool { listener.hasReader }
  func detachReader() { listener.detachReader() }

  /// Stops listening, gives up the handshakes under way, and closes the connections that nobody has taken.
  func cancel(_ reason: (any Error)?) {
    loop.perform {
      self.isCancelled = true
      self.listener.cancel(reason)
      for handshake in self.securing.values { handshake.giveUp(reason ?? StreamError.aborted) }
      for opening in self.opening.values { opening.giveUp(reason ?? StreamError.aborted) }
      for socket in self.ready { socket.endForShutdown() }
      self.ready = []
    }
  }
}
