#if SQLite
  import SluiceStreams
  import SluiceTopics

  #if canImport(Glibc)
    import Glibc
  #elseif canImport(Musl)
    import Musl
  #else
    import Darwin
  #endif

  /// Whether others append to the file: those who do hold a lock of `PATH-life`.
  ///
  /// A file can be replaced with an older copy while nobody has it open, and no byte of it shows that. So the first one to append begins a new life, and
  /// with it new epochs: what the copy lacks was in one of those before.
  final class SQLiteLife {
    let name: String
    private let descriptor: Int32

    /// - Throws: `TopicError`.
    init(_ path: String, _ logs: SQLiteLogs, lockTimeout: Duration) throws {
      let file = path + "-life"
      let descriptor = unsafe open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else {
        throw TopicError.refused("\(file) can't be opened: \(unsafe String(cString: strerror(errno)))")
      }
      do {
        let isAlone = flock(descriptor, LOCK_EX | LOCK_NB) == 0
        if isAlone { _ = try logs.life(isNew: true) }
        let deadline = ContinuousClock.now + lockTimeout.bounded
        while flock(descriptor, LOCK_SH | LOCK_NB) != 0 {
          guard errno == EWOULDBLOCK || errno == EINTR, ContinuousClock.now < deadline else {
            throw TopicError.unavailable("\(file) has been locked for longer than \(lockTimeout)")
          }
          usleep(1000)
        }
        // Between the two locks another one may have begun one.
        name = try logs.life(isNew: false)
        self.descriptor = descriptor
      } catch {
        close(descriptor)
        throw error
      }
    }

    deinit { close(descriptor) }
  }
#endif
