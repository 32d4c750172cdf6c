/// What a polled stream has right now.
public enum Polled<Element> {
  case element(Element)
  /// Nothing now; the reader's waker is called when that changes.
  case pending
  case end
}

/// What a polled stream has right now, some of which it may have lent to be looked at.
public enum PolledLending<Element> {
  /// All that there was has been used.
  /// - Parameter isDry: See `PolledReadableStream.isDry`.
  case used(isDry: Bool)
  /// Bytes that follow those used, or another element.
  case element(Element)
  case pending
  case end
}

/// Is told, on the loop, that a stream may have something to read or room to write.
///
/// A wake is a hint: the woken reader or writer polls again. It may come from inside of a call that the woken one has made itself, such
/// as the `flush` that made room.
public protocol Waker: AnyObject, Sendable {
  /// The stream that this is attached to as its reader may have something.
  func wakeReader()
  /// The stream that this is attached to as its writer may have room.
  func wakeWriter()
}

/// A waker that does the same in either case, or is attached to one half only.
public protocol SingleWaker: Waker {
  func wake()
}

extension SingleWaker {
  public func wakeReader() { wake() }
  public func wakeWriter() { wake() }
}

/// What lives on a loop.
public protocol LoopBound {
  var loop: any Loop { get }

  /// Whether the caller runs on that loop now: `loop.isCurrent`, which some know at less cost.
  var isOnLoop: Bool { get }
}

extension LoopBound {
  public var isOnLoop: Bool { loop.isCurrent }

  /// Of what belongs to the loop's thread. Checked where assertions are: in debug builds, the simulation and the fuzzing.
  @inlinable
  @inline(__always)
  package func assertOnLoop() { assert(loop.isCurrent, "this is for the loop's thread only") }
}

/// The polled gear of a readable stream: every call is made on the loop, and none waits.
///
/// A stream that lives on a loop conforms to this and gets `read()` from it. A pipe between two polled streams of one
/// loop runs inside the loop's callbacks, without a suspension per element.
public protocol PolledReadableStream<Output>: ReadableStream, LoopBound {
  /// What is ready. Throws when the stream has failed, every time.
  ///
  /// An element may be a slice of the loop's read buffer: a caller that keeps it after it has returned to the loop
  /// must `detach` it.
  func poll() throws -> Polled<Output>

  /// Polls as `poll` does. A stream of bytes shows them to `use` before it hands them out: what that has used up is not made an element of.
  /// - Parameter use: Gives the number of bytes, from the first on, that are not needed any more. Is called once at the most, for bytes that are there;
  ///   for what is not bytes, never.
  func poll(lendingTo use: (Span<UInt8>) -> Int) throws -> PolledLending<Output>

  /// Whether `poll` is known to give `pending` until the reader is woken, so that it need not be called. Default: false, not known.
  var isDry: Bool { get }

  /// Registers the one reader. It is woken when `poll` may give something else than `pending`.
  /// - Throws: `StreamError.concurrentRead` if another reader is registered.
  func attachReader(_ waker: any Waker) throws
  /// Whether a reader is registered: nobody else may poll then.
  var hasReader: Bool { get }
  func detachReader()

  /// Makes an element independent of the loop's buffers.
  func detach(_ element: Output) -> Output

  /// The inside of a pipe, chosen once for its two ends, wherever the pipe is begun: what it returns pushes what is ready into a
  /// sink of the same loop while that has room.
  ///
  /// The default polls and pushes in turn. A stream that can hand elements to a certain kind of sink more directly has its own.
  func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Output
}

/// Two polled halves. It is an object, so that whatever keeps one, as each connection keeps its transport, keeps a reference and not a box of any size.
public protocol PolledDuplexStream<Output, Input>: AnyObject, DuplexStream, PolledReadableStream,
  PolledWritableStream
{}

extension PolledLending {
  /// Where nothing was lent.
  public init(_ polled: consuming Polled<Element>) {
    switch consume polled {
    case .element(let element): self = .element(element)
    case .pending: self = .pending
    case .end: self = .end
    }
  }
}

extension PolledReadableStream {
  /// Reads and drops what is ready.
  /// - Returns: whether the end has come.
  package func dropReady() throws -> Bool {
    while true {
      switch try poll() {
      case .element: continue
      case .pending: return false
      case .end: return true
      }
    }
  }

  public func detach(_ element: Output) -> Output { element }

  public func poll(lendingTo use: (Span<UInt8>) -> Int) throws -> PolledLending<Output> { PolledLending(try poll()) }

  public var isDry: Bool { false }

  @inlinable
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Output {
    { drainElements(into: sink) }
  }

  /// The default of a pipe's inside, also for a stream that has its own for some sinks.
  @inlinable
  package func drainElements<Sink: PolledWritableStream>(into sink: Sink) -> PipeStep where Sink.Input == Output {
    drain(into: sink) { try moveNext(into: sink) }
  }

  /// Polls, and pushes what there is.
  @inlinable
  @inline(__always)
  func moveNext<Sink: PolledWritableStream>(into sink: Sink) throws -> Moved where Sink.Input == Output {
    let next: Polled<Output>
    do { next = try poll() } catch { return .failed(error) }
    switch next {
    case .element(let element):
      try sink.push(element)
      return .some
    case .pending: return .pending
    case .end: return .end
    }
  }

  /// - Parameter move: Moves what the source gives next. Throws what the sink fails with.
  @inlinable
  @inline(__always)
  func drain<Sink: PolledWritableStream>(into sink: Sink, _ move: () throws -> Moved) -> PipeStep {
    var hasMoved = false
    do {
      repeat {
        while try sink.hasRoom() {
          switch try move() {
          case .some: hasMoved = true
          case .all:
            sink.flush()
            return .waiting(hasMoved: true)
          case .pending:
            sink.flush()
            return .waiting(hasMoved: hasMoved)
          case .end:
            sink.flush()
            return .ended(.sourceEnded)
          case .failed(let error):
            sink.flush()
            return .ended(.sourceFailed(error))
          }
        }
        sink.flush()
        // What did not fit may have left at once.
      } while try sink.hasRoom()
      return .waiting(hasMoved: hasMoved)
    } catch {
      return .ended(.sinkFailed(error))
    }
  }
}

/// What a step of a pipe's inside has come to.
@usableFromInline
enum Moved {
  /// There may be more.
  case some
  /// Something was moved, and the source is dry.
  case all
  case pending
  case end
  /// The source.
  case failed(any Error)
}

extension PolledReadableStream where Output == Bytes {
  public func detach(_ element: Bytes) -> Bytes { element.compacted() }

  /// Lends what `poll` gives, and keeps it meanwhile.
  public func poll(lendingTo use: (Span<UInt8>) -> Int) throws -> PolledLending<Bytes> {
    let bytes: Bytes
    switch try poll() {
    case .element(let polled): bytes = polled
    case .pending: return .pending
    case .end: return .end
    }
    let used = use(bytes.span)
    return used < bytes.count ? .element(bytes.dropFirst(used)) : .used(isDry: isDry)
  }

  @inlinable
  public func drainer<Sink: PolledWritableStream>(into sink: Sink) -> () -> PipeStep where Sink.Input == Bytes {
    { drainBytes(into: sink) }
  }

  /// The default of a pipe's inside for bytes: what is read leaves at once where it can, and is queued only where it can't.
  @inlinable
  package func drainBytes<Sink: PolledWritableStream>(into sink: Sink) -> PipeStep where Sink.Input == Bytes {
    drain(into: sink) {
      let next: PolledLending<Bytes>
      do { next = try poll(lendingTo: { sink.sendAtOnce($0) }) } catch { return .failed(error) }
      switch next {
      case .used(let isDry): return isDry ? .all : .some
      case .element(let rest):
        try sink.push(rest)
        return .some
      case .pending: return .pending
      case .end: return .end
      }
    }
  }
}

/// The polled gear of a writable stream: every call is made on the loop, and none waits.
///
/// Who owes what:
/// - Whoever pushes owes nothing. What was pushed leaves at the end of the turn of the loop at the latest: the sink sees to that. `flush` has it
///   leave now.
/// - A sink that has said, by `hasRoom`, that it has none owes its writer a wake as soon as it has, or has failed: also when it
///   was the writer's own `flush` that made the room. `Watermark` keeps count of that.
/// - A sink may keep what is pushed beyond the turn only in memory of its own: `ByteQueue.settle` sees to that for bytes. The
///   memory of a chunk belongs to the loop, which reads into it again.
public protocol PolledWritableStream<Input>: WritableStream, LoopBound {
  /// Whether the queue is below its high watermark. If it is not, the writer is woken when it is below the low one.
  /// - Throws: `StreamError.closed`, or what the stream failed with.
  func hasRoom() throws -> Bool

  /// Takes an element, even above the watermark. It leaves with what else is pushed in this turn of the loop, at the end of that or at the next
  /// `flush`.
  func push(_ element: consuming Input) throws

  /// Bytes that were pushed and have not left yet; elements, where they are not bytes.
  var queuedByteCount: Int { get }

  /// Bytes that the peer's system has taken since the beginning, where that is known: tells a peer that is slow from one that is gone. Only its
  /// growth has a meaning. Default: nil, not known.
  var deliveredByteCount: Int? { get }

  /// Hands what was pushed to the system now.
  func flush()

  /// Of a stream of bytes: has what can leave now leave without being taken over, behind what was pushed before. What is lent need not be kept
  /// then, and what leaves at once need not be queued.
  /// - Returns: how many bytes need not be pushed any more: those that left, or all if it has failed meanwhile. Default: 0.
  func sendAtOnce(_ bytes: Span<UInt8>) -> Int

  /// Registers the one writer. It is woken when `hasRoom` may have changed.
  /// - Throws: `StreamError.concurrentWrite` if another writer is registered.
  func attachWriter(_ waker: any Waker) throws
  func detachWriter()

  /// Flushes, ends this half, and then calls `completion` on the loop, with the error if that failed. Calls it at once
  /// if the half is closed already.
  func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void)

  /// The same where the source has failed, which the reader is told if there is a way to say it. Default: `closeWhenFlushed`.
  func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void)
}

extension PolledWritableStream {
  public func sendAtOnce(_ bytes: Span<UInt8>) -> Int { 0 }

  public var queuedByteCount: Int { 0 }
  public var deliveredByteCount: Int? { nil }

  public func closeWhenFlushed(after failure: any Error, _ completion: @escaping @Sendable ((any Error)?) -> Void) {
    closeWhenFlushed(completion)
  }
}
