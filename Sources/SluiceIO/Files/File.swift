import CSluiceUV
import DequeModule
import SluiceStreams
import SystemPackage

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file as a stream of bytes, read and written on libuv's thread pool.
///
/// ```swift
/// try await File.open("in.txt").pipe(File.create("out.txt"))
/// ```
///
/// One chunk (128 KiB) is read ahead; writes above the watermark (1 MiB) wait. A file that is read to its end, cancelled, or
/// closed is closed; one that is dropped is closed with its last reference. Named pipes and devices can be opened too, but a
/// read that waits for one of them occupies a thread of the pool.
public final class File: PolledDuplexStream, @unchecked Sendable {
  // `uvLoop`, `name` and `ownsDescriptor` never change; everything else is touched on the loop only.
  public typealias Output = Bytes
  public typealias Input = Bytes

  private static let chunkSize = 128 << 10
  private static let highWatermark = 1 << 20

  let uvLoop: UVLoop
  /// The path, for error messages.
  public let name: String
  private var descriptor: CInt
  /// Whether the descriptor is ours to close.
  private let ownsDescriptor: Bool

  private enum ReadState {
    case open(position: Int64)
    case ended
    case failed(any Error)
  }
  private enum WriteState {
    case open(position: Int64)
    case closing(position: Int64, [@Sendable ((any Error)?) -> Void])
    case closed
    case failed(any Error)
  }
  private var readState: ReadState
  private var writeState: WriteState
  private var isReadInFlight = false
  private var isWriteInFlight = false
  private var readAhead: Bytes?
  private var reader: (any Waker)?
  private var writer: (any Waker)?
  private var queue = Deque<Bytes>()
  private var queuedBytes = 0

  /// What a descriptor was opened for.
  enum Direction {
    case read, write, both
  }

  /// - Parameters:
  ///   - readPosition: Where reading begins; -1 is the descriptor's own position.
  ///   - writePosition: As for reading.
  init(
    descriptor: CInt, owned: Bool, name: String, direction: Direction, readPosition: Int64 = -1,
    writePosition: Int64 = -1, on loop: UVLoop
  ) {
    self.descriptor = descriptor
    ownsDescriptor = owned
    self.name = name
    uvLoop = loop
    readState = direction == .write ? .ended : .open(position: readPosition)
    writeState = direction == .read ? .closed : .open(position: writePosition)
  }

  deinit {
    if ownsDescriptor && descriptor >= 0 { _ = closeDescriptor(descriptor) }
  }

  public var loop: any Loop { uvLoop }
}

// MARK: opening

extension File {
  /// Opens a file to be read.
  /// - Parameter offset: Bytes to begin behind, 0 or more.
  /// - Throws: `IOError`: ENOENT, EACCES, EISDIR …
  public static func open(_ path: FilePath, offset: Int64 = 0, on loop: UVLoop = .shared) async throws -> File {
    try await open(path, O_RDONLY, .read, readPosition: offset, on: loop)
  }

  /// Creates a file to be written, or empties the one that is there.
  /// - Parameter permissions: Of a new file, before the process's mask. Default: read and write for all.
  /// - Throws: `IOError`.
  public static func create(
    _ path: FilePath, permissions: FilePermissions = FilePermissions(rawValue: 0o666), on loop: UVLoop = .shared
  ) async throws -> File {
    try await open(path, O_WRONLY | O_CREAT | O_TRUNC, .write, permissions: permissions, on: loop)
  }

  /// Opens a file to be written at its end, whoever else writes to it; creates it if it is not there.
  /// - Throws: `IOError`.
  public static func append(
    _ path: FilePath, permissions: FilePermissions = FilePermissions(rawValue: 0o666), on loop: UVLoop = .shared
  ) async throws -> File {
    try await open(path, O_WRONLY | O_CREAT | O_APPEND, .write, permissions: permissions, on: loop)
  }

  /// Opens a file to be read and written in place, each from a position of its own; creates it if it is not there.
  /// - Throws: `IOError`.
  public static func update(
    _ path: FilePath, readOffset: Int64 = 0, writeOffset: Int64 = 0,
    permissions: FilePermissions = FilePermissions(rawValue: 0o666), on loop: UVLoop = .shared
  ) async throws -> File {
    try await open(
      path, O_RDWR | O_CREAT, .both, readPosition: readOffset, writePosition: writeOffset, permissions: permissions,
      on: loop)
  }

  private static func open(
    _ path: FilePath, _ flags: CInt, _ direction: Direction, readPosition: Int64 = -1, writePosition: Int64 = -1,
    permissions: FilePermissions = [], on loop: UVLoop
  ) async throws -> File {
    let name = path.string
    guard readPosition >= -1, writePosition >= -1 else {
      throw IOError(operation: "open", subject: name, code: "EINVAL", reason: "an offset must be 0 or more")
    }
    return try await withCheckedThrowingContinuation { continuation in
      loop.perform {
        unsafe FileRequest.start(on: loop) { loop, request, callback in
          unsafe uv_fs_open(loop, request, name, flags | O_CLOEXEC, CInt(permissions.rawValue), callback)
        } completion: { result, _ in
          guard let descriptor = CInt(exactly: result), descriptor >= 0 else {
            return continuation.resume(throwing: IOError("open", name, status: CInt(clamping: result)))
          }
          if let error = refusal(of: descriptor, name) {
            _ = closeDescriptor(descriptor)
            return continuation.resume(throwing: error)
          }
          continuation.resume(
            returning: File(
              descriptor: descriptor, owned: true, name: name, direction: direction,
              readPosition: isSeekable(descriptor) ? readPosition : -1,
              writePosition: isSeekable(descriptor) ? writePosition : -1, on: loop))
        }
      }
    }
  }

  /// A directory can be opened, but not read as bytes: say so at once.
  private static func refusal(of descriptor: CInt, _ name: String) -> IOError? {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { return IOError("open", name, status: -errno) }
    return status.st_mode & S_IFMT == S_IFDIR ? IOError("open", name, status: -EISDIR) : nil
  }

  private static func isSeekable(_ descriptor: CInt) -> Bool {
    lseek(descriptor, 0, SEEK_CUR) >= 0
  }
}

// MARK: reading

extension File {
  public func poll() throws -> Polled<Bytes> {
    if let chunk = readAhead {
      readAhead = nil
      startReading()
      return .element(chunk)
    }
    switch readState {
    case .open:
      startReading()
      return .pending
    case .ended: return .end
    case .failed(let error): throw error
    }
  }

  private func startReading() {
    guard case .open(let position) = readState, !isReadInFlight else { return }
    isReadInFlight = true
    let storage = ByteStorage(capacity: Self.chunkSize)
    unsafe FileRequest.start(on: uvLoop) { loop, request, callback in
      var buffer = unsafe uv_buf_init(
        UnsafeMutableRawPointer(storage.pointer).assumingMemoryBound(to: CChar.self), UInt32(Self.chunkSize))
      return unsafe uv_fs_read(loop, request, descriptor, &buffer, 1, position, callback)
    } completion: { count, _ in
      self.isReadInFlight = false
      self.didRead(count, storage)
    }
  }

  private func didRead(_ count: Int, _ storage: ByteStorage) {
    guard case .open(let position) = readState else { return closeIfDone() }
    if count > 0 {
      readState = .open(position: position < 0 ? position : position + Int64(count))
      let chunk = Bytes(storage: storage, start: 0, end: count)
      // A short chunk must not hold a whole buffer.
      readAhead = count < Self.chunkSize / 2 ? chunk.compacted() : chunk
    } else {
      readState = count == 0 ? .ended : .failed(IOError("read", name, status: CInt(clamping: count)))
      closeIfDone()
    }
    reader?.wake()
  }

  public func attachReader(_ waker: any Waker) throws {
    guard reader == nil else { throw StreamError.concurrentRead }
    reader = waker
  }

  public func detachReader() { reader = nil }

  public func cancel(_ reason: (any Error)?) {
    uvLoop.perform {
      self.readAhead = nil
      if case .open = self.readState { self.readState = .ended }
      self.reader?.wake()
      self.closeIfDone()
    }
  }
}

// MARK: writing

extension File {
  public func hasRoom() throws -> Bool {
    switch writeState {
    case .open: return queuedBytes < Self.highWatermark
    case .closing, .closed: throw StreamError.closed
    case .failed(let error): throw error
    }
  }

  public var needsFlush: Bool { !queue.isEmpty && !isWriteInFlight }
  public var queuedByteCount: Int { queuedBytes }

  public func push(_ bytes: consuming Bytes) throws {
    guard case .open = writeState else {
      _ = try hasRoom()
      return
    }
    if bytes.isEmpty { return }
    // The bytes stay queued beyond this turn: a slice of the loop's read buffer moves out of it.
    let kept = bytes.compacted()
    queuedBytes += kept.count
    queue.append(kept)
  }

  public func flush() {
    guard !queue.isEmpty, !isWriteInFlight, let position = writePosition else { return }
    isWriteInFlight = true
    let count = Swift.min(queue.count, 64)
    unsafe FileRequest.start(on: uvLoop) { loop, request, callback in
      unsafe withUnsafeTemporaryAllocation(of: uv_buf_t.self, capacity: count) { buffers in
        for index in 0..<count {
          unsafe queue[index].withUnsafeBytes { bytes in
            let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress!).assumingMemoryBound(to: CChar.self)
            unsafe buffers[index] = unsafe uv_buf_init(base, UInt32(clamping: bytes.count))
          }
        }
        return unsafe uv_fs_write(loop, request, descriptor, buffers.baseAddress, UInt32(count), position, callback)
      }
    } completion: { result, _ in
      self.isWriteInFlight = false
      self.didWrite(result)
    }
  }

  private var writePosition: Int64? {
    switch writeState {
    case .open(let position), .closing(let position, _): position
    case .closed, .failed: nil
    }
  }

  private func didWrite(_ count: Int) {
    if count < 0 { return fail(IOError("write", name, status: CInt(clamping: count))) }
    drop(count)
    advance(by: Int64(count))
    if queue.isEmpty {
      finishClosing()
    } else {
      flush()
    }
    if queuedBytes <= Self.highWatermark / 2 { writer?.wake() }
  }

  private func drop(_ count: Int) {
    queuedBytes -= count
    var left = count
    while left > 0, let first = queue.first {
      if first.count <= left {
        left -= first.count
        queue.removeFirst()
      } else {
        queue[0] = first.dropFirst(left)
        left = 0
      }
    }
  }

  private func advance(by count: Int64) {
    switch writeState {
    case .open(let position) where position >= 0: writeState = .open(position: position + count)
    case .closing(let position, let waiting) where position >= 0:
      writeState = .closing(position: position + count, waiting)
    case .open, .closing, .closed, .failed: break
    }
  }

  public func attachWriter(_ waker: any Waker) throws {
    guard writer == nil else { throw StreamError.concurrentWrite }
    writer = waker
  }

  public func detachWriter() { writer = nil }
}

// MARK: ending

extension File {
  public func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) {
    switch writeState {
    case .open(let position):
      writeState = .closing(position: position, [completion])
      flush()
      finishClosing()
    case .closing(let position, let waiting): writeState = .closing(position: position, waiting + [completion])
    case .closed: completion(nil)
    case .failed(let error): completion(error)
    }
  }

  private func finishClosing() {
    guard case .closing(_, let completions) = writeState, queue.isEmpty, !isWriteInFlight else { return }
    writeState = .closed
    closeIfDone()
    writer?.wake()
    for completion in completions { completion(nil) }
  }

  private func fail(_ error: any Error) {
    var completions: [@Sendable ((any Error)?) -> Void] = []
    if case .closing(_, let waiting) = writeState { completions = waiting }
    writeState = .failed(error)
    queue.removeAll()
    queuedBytes = 0
    closeIfDone()
    writer?.wake()
    for completion in completions { completion(error) }
  }

  public func abort(_ reason: any Error) {
    uvLoop.perform {
      if case .open = self.readState { self.readState = .failed(reason) }
      self.readAhead = nil
      switch self.writeState {
      case .open, .closing: self.fail(reason)
      case .closed, .failed: self.closeIfDone()
      }
      self.reader?.wake()
    }
  }

  private func closeIfDone() {
    if case .open = readState { return }
    switch writeState {
    case .open, .closing: return
    case .closed, .failed: break
    }
    guard ownsDescriptor, descriptor >= 0, !isReadInFlight, !isWriteInFlight else { return }
    _ = closeDescriptor(descriptor)
    descriptor = -1
  }
}
