import CSluiceUV
import SluiceStreams
import SystemPackage

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

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
            FileRequest.close(descriptor, on: loop)
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
