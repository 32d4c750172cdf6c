#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A regular file behind an endpoint, whatever name it has there.
struct RegularFile: Equatable {
  private let device: dev_t
  private let inode: ino_t

  /// - Returns: nil for an endpoint that reads no regular file, or one that does not exist.
  static func read(by endpoint: Endpoint) -> RegularFile? {
    RegularFile(endpoint, standard: STDIN_FILENO)
  }

  /// - Returns: nil for an endpoint that writes no regular file, or one that does not exist yet.
  static func written(by endpoint: Endpoint) -> RegularFile? {
    RegularFile(endpoint, standard: STDOUT_FILENO)
  }

  /// Whether it may take any time to open an endpoint: to connect it, or to wait for the reader of a named pipe.
  static func mayWait(toOpen endpoint: Endpoint) -> Bool {
    switch endpoint {
    case .file(let path), .replay(let path):
      var status = stat()
      return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    default: return endpoint.isRemote || endpoint.isTopic
    }
  }

  /// How many bytes an endpoint will give, as far as a file's size says that.
  /// - Returns: nil for one that reads no regular file, or a file whose size says nothing, as in /proc and /sys: those occupy no blocks.
  static func bytesLeft(in endpoint: Endpoint) -> Int? {
    if case .replay = endpoint { return nil }
    guard let status = status(of: endpoint, standard: STDIN_FILENO), status.st_blocks > 0 else { return nil }
    let offset = endpoint == .standardIO ? lseek(STDIN_FILENO, 0, SEEK_CUR) : 0
    guard offset >= 0, status.st_size > offset else { return nil }
    return Int(exactly: status.st_size - offset)
  }

  private init?(_ endpoint: Endpoint, standard descriptor: CInt) {
    guard let status = Self.status(of: endpoint, standard: descriptor) else { return nil }
    device = status.st_dev
    inode = status.st_ino
  }

  private static func status(of endpoint: Endpoint, standard descriptor: CInt) -> stat? {
    var status = stat()
    let result =
      switch endpoint {
      case .file(let path), .replay(let path): unsafe stat(path, &status)
      case .standardIO: unsafe fstat(descriptor, &status)
      default: CInt(-1)
      }
    return result == 0 && status.st_mode & S_IFMT == S_IFREG ? status : nil
  }
}
