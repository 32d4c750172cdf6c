import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Excludes others who begin to listen in the same folder: between a server's look at a socket file that was left over and its removal, another
/// one could put its own there.
///
/// It is a lock of the folder itself (flock), so that nothing is left behind, and ends with the process.
struct FolderLock: ~Copyable {
  private let descriptor: CInt

  private static let retryTime = Duration.milliseconds(5)
  private static let patience = 200

  private init(_ descriptor: CInt) { self.descriptor = descriptor }

  deinit { _ = closeDescriptor(descriptor) }

  /// Waits for whoever has it, but for no longer than a second: it takes far less to begin to listen.
  /// - Returns: nil where the folder can't be locked: because it can't be read, or its file system has no locks.
  /// - Throws: `CancellationError`.
  static func take(ofFolderOf path: String, on loop: UVLoop) async throws -> FolderLock? {
    let folder = path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[...$0]) } ?? "."
    let descriptor = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    let lock = FolderLock(descriptor)
    for _ in 0..<patience {
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return lock }
      guard errno == EWOULDBLOCK else { return nil }
      try await loop.sleep(for: retryTime)
    }
    return nil
  }
}
