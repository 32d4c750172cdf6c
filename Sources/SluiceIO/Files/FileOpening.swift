import CSluiceSystem
import CSluiceUV
import SluiceStreams
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension File {
  /// Opens a file to be read. A named pipe need not have a writer yet.
  /// - Parameter offset: Bytes to begin behind, 0 or more.
  /// - Throws: `IOError`: ENOENT, EACCES, EISDIR …
  public static func open(_ path: FilePath, offset: Int64 = 0, on loop: UVLoop = .shared) async throws -> File {
    try await open(path, O_RDONLY, .read, readPosition: offset, on: loop)
  }

  /// Creates a file to be written, or empties the one that is there. Waits for the reader of a named pipe.
  /// - Parameter permissions: Of a new file, before the process's mask. Default: read and write for all.
  /// - Throws: `IOError`; `CancellationError` when the task is cancelled while it waits.
  public static func create(
    _ path: FilePath, permissions: FilePermissions = FilePermissions(rawValue: 0o666), on loop: UVLoop = .shared
  ) async throws -> File {
    try await open(path, O_WRONLY | O_CREAT | O_TRUNC, .write, permissions: permissions, on: loop)
  }

  /// Opens a file to be written at its end, whoever else writes to it; creates it if it is not there. Waits for the reader of a named pipe.
  /// - Throws: `IOError`; `CancellationError` when the task is cancelled while it waits.
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
    _ path: FilePath, _ flags: CInt, _ direction: PooledFile.Direction, readPosition: Int64 = -1,
    writePosition: Int64 = -1,
    permissions: FilePermissions = [], on loop: UVLoop
  ) async throws -> File {
    let name = path.string
    guard readPosition >= -1, writePosition >= -1 else {
      throw IOError(operation: "open", subject: name, code: "EINVAL", reason: "negative offset")
    }
    while true {
      let opened = try await tryOpening(name, flags, permissions, on: loop) { descriptor in
        try File(
          Self.stream(
            of: descriptor, name, direction, readPosition: readPosition, writePosition: writePosition, on: loop),
          name: name, on: loop)
      }
      if let opened { return opened }
      try await loop.sleep(for: retryTime)
    }
  }

  /// There is no event for a reader that has opened a named pipe.
  private static let retryTime = Duration.milliseconds(50)

  /// Opens a file without waiting for anybody.
  /// - Parameter adopt: Makes a stream of the descriptor, or closes it; called on the loop.
  /// - Returns: nil if somebody has to be waited for: the reader of a named pipe, or who holds a lease on the file.
  private static func tryOpening(
    _ name: String, _ flags: CInt, _ permissions: FilePermissions, on loop: UVLoop,
    _ adopt: @escaping @Sendable (CInt) throws -> File
  ) async throws -> File? {
    try await withCheckedThrowingContinuation { continuation in
      loop.perform {
        unsafe FileRequest.start(on: loop) { loop, request, callback in
          unsafe uv_fs_open(
            loop, request, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, CInt(permissions.rawValue), callback)
        } completion: { result, _ in
          let status = CInt(clamping: result)
          if status >= 0 { return continuation.resume(with: Result { try adopt(status) }) }
          if status == UV_EAGAIN.rawValue || status == UV_ENXIO.rawValue && isNamedPipe(name) {
            return continuation.resume(returning: nil)
          }
          continuation.resume(throwing: IOError("open", name, status: status))
        }
      }
    }
  }

  private static func isNamedPipe(_ name: String) -> Bool {
    var status = stat()
    return unsafe stat(name, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
  }

  /// Takes over a descriptor that does not block; closes it if it throws. On the loop only.
  private static func stream(
    of descriptor: CInt, _ name: String, _ direction: PooledFile.Direction, readPosition: Int64, writePosition: Int64,
    on loop: UVLoop
  ) throws -> any PolledDuplexStream<Bytes, Bytes> {
    do {
      var status = stat()
      guard unsafe fstat(descriptor, &status) == 0 else { throw IOError("open", name, status: -errno) }
      let kind = status.st_mode & S_IFMT
      // A directory can be opened, but not read as bytes: say so at once.
      if kind == S_IFDIR { throw IOError("open", name, status: -EISDIR) }
      if kind != S_IFREG && kind != S_IFBLK {
        if var watch = try DescriptorWatch.borrow(descriptor, on: loop, operation: "open", subject: name) {
          watch.adopt()
          return SocketStream(
            watch, on: loop, name: name, direction: direction.ofSocket, isSocket: false, readerMayReturn: true)
        }
        // It never has anybody wait, as /dev/null: or if it does, nobody can say for how long.
        _ = sluice_block(descriptor)
      }
      let isSeekable = lseek(descriptor, 0, SEEK_CUR) >= 0
      return PooledFile(
        descriptor: descriptor, owned: true, name: name, direction: direction,
        readPosition: isSeekable ? readPosition : -1, writePosition: isSeekable ? writePosition : -1, on: loop)
    } catch {
      FileRequest.close(descriptor, on: loop)
      throw error
    }
  }
}
