import Sluice

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The descriptors 0, 1 and 2.
enum StandardDescriptors {
  /// Whether whoever called has given no standard input: it is /dev/null, as under systemd, `&` and `nohup`, or was closed, and `occupy` has put
  /// that there.
  static var hasNoInput: Bool {
    var (input, null) = (stat(), stat())
    guard unsafe fstat(STDIN_FILENO, &input) == 0 && stat("/dev/null", &null) == 0 else { return true }
    return input.st_mode & S_IFMT == S_IFCHR && input.st_rdev == null.st_rdev
  }

  /// Has the runtime take what it needs of descriptors while there are some: it ends the process where there is none, and not with an error.
  /// - Throws: `IOError`: EMFILE, ENFILE.
  static func prepareRuntime() async throws {
    // For its timers, libuv, and epoll.
    try check(available: 12)
    // Its first timer takes the most of them.
    try await Task.sleep(for: .nanoseconds(1))
  }

  private static func check(available count: Int) throws {
    var opened: [CInt] = []
    defer { for descriptor in opened { close(descriptor) } }
    while opened.count < count {
      let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw IOError(
          operation: "start", subject: "with less than \(count) free descriptors (ulimit -n)",
          code: errno == ENFILE ? "ENFILE" : "EMFILE", reason: "too many open files")
      }
      opened.append(descriptor)
    }
  }

  /// Takes those that whoever called left closed (`>&-`): the next file or socket that is opened would else get their numbers, and what is
  /// meant for standard output. Reading or writing them fails, as it does when they are closed.
  static func occupy() {
    for (descriptor, mode) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
    where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest number that is free: those below are taken.
      _ = unsafe open("/dev/null", mode)
    }
  }
}
