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

/// What the file system says of a path, symbolic links followed.
public struct FileStatus: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    case file, folder, other
  }
  public let kind: Kind
  /// In bytes.
  public let size: Int
}

extension File {
  /// Asks for the kind and size of a file.
  /// - Throws: `IOError`: ENOENT, EACCES, ENOTDIR …
  public static func status(of path: FilePath, on loop: UVLoop = .shared) async throws -> FileStatus {
    let name = path.string
    return try await withCheckedThrowingContinuation { continuation in
      loop.perform {
        unsafe FileRequest.start(on: loop) { loop, request, callback in
          unsafe uv_fs_stat(loop, request, name, callback)
        } completion: { result, request in
          guard result == 0 else {
            return continuation.resume(throwing: IOError("examine", name, status: CInt(clamping: result)))
          }
          continuation.resume(returning: unsafe FileStatus(request.pointee.statbuf))
        }
      }
    }
  }
}

extension File {
  /// The absolute path of a file, with every symbolic link resolved.
  /// - Throws: `IOError`: ENOENT, EACCES, ELOOP …
  public static func realPath(of path: FilePath, on loop: UVLoop = .shared) async throws -> FilePath {
    let name = path.string
    return try await withCheckedThrowingContinuation { continuation in
      loop.perform {
        unsafe FileRequest.start(on: loop) { loop, request, callback in
          unsafe uv_fs_realpath(loop, request, name, callback)
        } completion: { result, request in
          guard result >= 0, let real = unsafe request.pointee.ptr else {
            return continuation.resume(throwing: IOError("resolve", name, status: CInt(clamping: result)))
          }
          continuation.resume(returning: unsafe FilePath(platformString: real.assumingMemoryBound(to: CChar.self)))
        }
      }
    }
  }
}

extension FileStatus {
  fileprivate init(_ status: uv_stat_t) {
    switch mode_t(truncatingIfNeeded: status.st_mode) & S_IFMT {
    case S_IFREG: kind = .file
    case S_IFDIR: kind = .folder
    default: kind = .other
    }
    size = Int(clamping: status.st_size)
  }
}
