import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol
import Synchronization

/// A WebSocket: a duplex stream of messages.
///
/// ```swift
/// let ws = try await WebSocket.connect("ws://127.0.0.1:8000")
/// try await ws.send("hello")
/// for try await message in ws { print(message.text) }
/// ```
///
/// It lives on the loop of its connection. While nobody reads, it reads ahead, up to the write watermark's number of bytes:
/// pings are answered and a Close is heeded though the application only writes. Reading ends with nil when the peer closed
/// with 1000, 1001, 3000-4999 or no code (`closeStatus` tells which), and throws otherwise.
@safe
public final class WebSocket: PolledDuplexStream, ReaderHolding, WriterHolding, GatheringSink,
  @unchecked Sendable
{
  // What is `let` may be read from everywhere; everything else is touched on the loop only.
  public typealias Output = Message
  public typealias Input = Message

  /// The byte stream beneath: a socket, or anything else that is duplex and lives on a loop.
  public typealias Transport = any PolledDuplexStream<Bytes, Bytes>

  package let context: ConnectionContext
  let transport: Transport
  let coding: MessageCoding
  /// How this connection was agreed upon.
  let opening: WebSocketOpening
  /// Where the connection comes from, also behind trusted proxies and load balancers (`WebSocketServerOptions.trustedProxies`, `.proxyProtocolFrom`): nil
  /// if one of these did not say. On a client: what it is connected to, which may be a proxy. nil too where the transport has no such address.
  public let remoteAddress: IPAddress?

  // The small ones stand together: an idle connection holds all of this.
  let role: WebSocketRole
  /// Whether a timer, or an observer, looks at what happens: those of the options, or that of our Close.
  @safe @exclusivity(unchecked) var isWatched: Bool
  @safe @exclusivity(unchecked) var activity = Activity()
  @safe @exclusivity(unchecked) var isReadingAhead = false
  /// Whether anybody has read yet: who only writes has no use for the order of a Close behind messages.
  @safe @exclusivity(unchecked) var hasBeenRead = false
  /// Whether who reads, or writes, was told that this has ended.
  @safe @exclusivity(unchecked) var isEndTold = false
  /// Whether messages are dropped, because the read half was cancelled.
  @safe @exclusivity(unchecked) var isDiscarding = false
  /// Whether somebody was told that there is no room, and waits for it.
  @safe @exclusivity(unchecked) var isRoomAwaited = false
  @safe @exclusivity(unchecked) @usableFromInline package var isFlushScheduled = false
  /// Whether a server's handler is still to return.
  @safe @exclusivity(unchecked) var isServed = false
  /// The message that is being sent in fragments.
  @safe @exclusivity(unchecked) var sendingFragments: FragmentSending?

  @safe @exclusivity(unchecked) var decoder: FrameDecoder
  @safe @exclusivity(unchecked) var assembler: MessageAssembler
  @safe @exclusivity(unchecked) var readState = ReadState.open { didSet { publish() } }
  @safe @exclusivity(unchecked) var ahead = ReadAhead()
  @safe @exclusivity(unchecked) var reader = ReaderSlot()
  /// The task that a server runs for this connection.
  package var servingTask: Task<Void, any Error>?
  /// That task's while it is in its handler.
  @safe @exclusivity(unchecked) @usableFromInline package var servingIdentity = TaskIdentity()

  @safe @exclusivity(unchecked) var writeState = WriteState.open { didSet { publish() } }
  /// Frames gathered in this turn of the loop; holds memory only while it holds frames.
  @safe @exclusivity(unchecked) var gathered = BytesBuilder()
  @safe @exclusivity(unchecked) package var writer = RoomWaiters.nobody

  /// Made when there is something that it is to hold.
  @safe @exclusivity(unchecked) private(set) var heldControls: ControlFrames?
  @safe @exclusivity(unchecked) var closing = ClosingState.none { didSet { publish() } }
  /// Where the connection is in its life, for every thread.
  let life = Mutex(PublishedLife())
  /// On a server: what counts this connection while it is open.
  @safe @exclusivity(unchecked) var slot: HeldSlot?

  public var loop: any Loop { context.loop }
  public var isOnLoop: Bool { context.isOnLoop }

  var options: WebSocketOptions {
    @inline(__always) _read { yield context.options }
  }

  /// Our Close makes the peer close, and so ends the reading.
  public var endsAsOne: Bool { true }

  // What an open connection does not have lies behind a pointer: it counts for each idle one.

  enum ReadState {
    case open
    /// The peer's Close came.
    case closed(CloseStatus)
    case failed(any Error)
  }

  enum WriteState {
    case open
    /// Our Close is written, nothing can follow it.
    indirect case closed(CloseCode, String)
    case failed(any Error)
  }

  /// What happens to the transport once a Close was sent or received.
  enum ClosingState {
    case none
    indirect case waiting(StallWatch, [@Sendable ((any Error)?) -> Void])
    /// Both sides have closed: the transport is to end in both directions.
    indirect case lingering(StallWatch, until: TransportEnds)
    case done
  }

  /// The ends of the transport's two directions.
  struct TransportEnds: OptionSet {
    let rawValue: UInt8
    /// All that we wrote has left, our Close behind it.
    static let ours = TransportEnds(rawValue: 1)
    static let peers = TransportEnds(rawValue: 2)
  }

  /// Takes over a transport on which the opening handshake is done. On the transport's loop only.
  /// - Parameters:
  ///   - head: What was read behind the handshake.
  ///   - peer: Where the connection comes from.
  init(
    over transport: Transport, role: WebSocketRole, head: Bytes, opening: WebSocketOpening,
    extensions: NegotiatedExtensions = NegotiatedExtensions(), peer: PeerAddress = .ofTransport,
    in context: ConnectionContext
  ) throws {
    let options = context.options
    self.context = context
    self.transport = transport
    self.role = role
    self.opening = opening
    remoteAddress = peer.address(of: transport)
    isWatched = options.keepalive != nil || options.idleTimeout != nil || options.observer != nil
    decoder = FrameDecoder(role: role, allowedReservedBits: extensions.reservedBits)
    coding = MessageCoding(opening, extensions, options, on: transport.loop)
    assembler = MessageAssembler(maxMessageSize: options.maxMessageSize, maxFragments: options.maxFragments)
    feed(head)
    // A server's connection is kept alive by its transport until both have ended. A client's ends when nobody has it any more.
    let waker: any Waker = role == .client ? WeakWaker(self) : self
    try transport.attachReader(waker)
    try transport.attachWriter(waker)
    startWatching()
    // A reader is likely to be there soon; if not, nothing else would tell of what has come already.
    if !head.isEmpty { loop.execute { self.readAheadIfNeeded() } }
  }

  deinit {
    // While it closes, or has closed, something else held it.
    if role == .client, case .none = closing { AbandonedConnection.close(transport, opening, context) }
  }

  var maskingKeys: MaskingKeys? { context.maskingKeys }

  /// The peer's Close.
  var received: CloseStatus? { heldControls?.received }

  /// What is known of control frames.
  var controls: ControlFrames {
    if let heldControls { return heldControls }
    let controls = ControlFrames()
    heldControls = controls
    return controls
  }
}

/// A key source on the heap, so that a server's connections don't hold its memory.
final class MaskingKeys {
  private var source = MaskingKeySource()

  func next() -> MaskingKey { source.next() }
}
