#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The file of a Unix socket, known by what it is rather than by its path, at which another file may stand by now.
struct SocketFile: Equatable {
  let path: String
  private let device: dev_t
  private let inode: ino_t

  /// - Returns: nil if there is nothing at the path, or something else than a socket: a link to one is none either.
  init?(at path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return nil }
    self.path = path
    device = status.st_dev
    inode = status.st_ino
  }

  /// Removes it, unless something else has taken its place.
  func remove() {
    if SocketFile(at: path) == self { unsafe unlink(path) }
  }
}
