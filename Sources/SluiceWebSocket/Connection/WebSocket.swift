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
  /// Extensions other than compression: they stand between messages and the machine.
  let pipeline: ExtensionPipeline?
  /// How this connection was agreed upon.
  let opening: WebSocketOpening

  /// The protocol.
  @safe @exclusivity(unchecked) var machine: WebSocketMachine
  @safe @exclusivity(unchecked) var incoming = Incoming()
  @safe @exclusivity(unchecked) var reader = ReaderSlot()
  @safe @exclusivity(unchecked) var outgoing = Outgoing()

  /// Made when there is something that it is to hold.
  @safe @exclusivity(unchecked) private(set) var heldControls: ControlFrames?
  @safe @exclusivity(unchecked) var closing = ClosingState.none { didSet { publish() } }
  /// Where the connection is in its life, for every thread.
  let published = Mutex(PublishedLife())
  @safe @exclusivity(unchecked) var serving = Serving()

  public var loop: any Loop { context.loop }
  public var isOnLoop: Bool { context.isOnLoop }

  var options: WebSocketOptions {
    @inline(__always) _read { yield context.options }
  }

  /// Our Close makes the peer close, and so ends the reading.
  public var endsAsOne: Bool { true }

  // What an open connection does not have lies behind a pointer: it counts for each idle one.

  /// What the peer has sent and nobody has read.
  struct Incoming: ~Copyable {
    /// What is not decoded yet.
    var bytes = Bytes()
    /// Whether that may be a slice of the loop's buffer.
    var isUnsettled = false
    /// Whether decoding is for `ahead` now.
    var isReadingAhead = false
    /// Whether anybody has read yet: who only writes has no use for the order of a Close behind messages.
    var hasBeenRead = false
    /// Whether it will be looked soon whether what was read last had more behind it.
    var isLookDue = false
    /// How often somebody has asked for a message.
    var readCount: UInt32 = 0
    /// Whether messages are dropped, because the read half was cancelled.
    var isDiscarding = false
    /// Whether who reads, or writes, was told that this has ended.
    var isEndTold = false
    var ahead = ReadAhead()
  }

  /// What is to be sent and has not left for the transport.
  struct Outgoing: ~Copyable {
    /// Frames of this turn of the loop; holds memory only while it holds frames.
    var gathered = BytesBuilder()
    var isFlushScheduled = false
    /// Whether other threads may have to be told of what is buffered though `sendAtOnce` has taken everything: something is, as far as they know, or
    /// the transport does not hand it to the system at once.
    var mayHoldUntold = true
    /// Whether the system has what the transport's `sendAtOnce` has taken.
    var isSentToSystem = false
    /// Whether the transport had room, and has neither got anything nor told of anything since: asking it costs as much as framing a short message.
    var isRoomKnown = false
    /// Whether somebody was told that there is no room, and waits for it.
    var isRoomAwaited = false
    /// Who is told that there is room again.
    var writer = RoomWaiters.nobody
  }

  package var writer: RoomWaiters {
    @inline(__always) _read { yield outgoing.writer }
    @inline(__always) _modify { yield &outgoing.writer }
  }

  /// What a server does with this connection.
  struct Serving: ~Copyable {
    /// The task that runs its handler.
    var task: Task<Void, any Error>?
    /// That task's while it is in its handler.
    var identity = TaskIdentity()
    /// Whether the handler is still to return.
    var isRunning = false
    /// What counts the connection while it is open.
    var slot: HeldSlot?
  }

  package var servingTask: Task<Void, any Error>? {
    get { serving.task }
    set { serving.task = newValue }
  }

  @usableFromInline package var servingIdentity: TaskIdentity {
    get { serving.identity }
    set { serving.identity = newValue }
  }

  var slot: HeldSlot? {
    _read { yield serving.slot }
    _modify { yield &serving.slot }
  }

  @usableFromInline package var isFlushScheduled: Bool {
    get { outgoing.isFlushScheduled }
    set { outgoing.isFlushScheduled = newValue }
  }

  var role: WebSocketRole { context.role }

  /// What happens to the transport once a Close was sent or received.
  enum ClosingState {
    case none
    indirect case waiting([@Sendable ((any Error)?) -> Void])
    /// Both sides have closed: the transport is to end in both directions.
    case lingering(until: TransportEnds)
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
    self.opening = opening.with(peer.address(of: transport))
    let (coding, pipeline) = MessageCoding.make(opening.version, extensions, options, on: transport.loop)
    self.pipeline = pipeline
    machine = WebSocketMachine(
      role, version: opening.version, coding: coding, allowedReservedBits: extensions.reservedBits,
      keys: context.maskingKeys, maxMessageSize: options.maxMessageSize, maxFragments: options.maxFragments,
      scratch: context.scratch)
    machine.isObserved = options.observer != nil
    machine.isWatched = machine.isObserved || options.keepalive != nil || options.idleTimeout != nil
    outgoing.isSentToSystem = (transport as? any TransportDescribing)?.sendsToSystem ?? false
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

  // By the cases themselves: these are asked for many times for each message.

  /// Whether messages may be sent.
  var isOpen: Bool {
    @inline(__always) get { if case .open = machine.life { true } else { false } }
  }

  /// Whether what the peer sends counts.
  var isReading: Bool {
    @inline(__always) get { if case .ended = machine.life { false } else { true } }
  }

  /// Whether a message is being sent in parts.
  var isInsideMessage: Bool {
    @inline(__always) get { machine.sending != nil }
  }

  /// Whether messages and their frames are the same bytes.
  var isPlain: Bool { pipeline == nil && machine.isPlain }

  /// Whether whole frames of the peer may pass to another WebSocket without being made messages first.
  var relaysFrames: Bool { pipeline == nil && machine.hasFrames }

  /// The peer's Close.
  var received: CloseStatus? { machine.life.received }

  /// What is known of control frames.
  var controls: ControlFrames {
    if let heldControls { return heldControls }
    let controls = ControlFrames()
    heldControls = controls
    return controls
  }
}
