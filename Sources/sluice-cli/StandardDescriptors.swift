import Sluice

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
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

  /// Whether there are descriptors for the runtime: its timers, libuv, and epoll. Where there is none, they end the process, and not with an error.
  /// - Throws: `IOError`: EMFILE, ENFILE.
  static func checkAvailable() throws {
    let needed = 12
    var opened: [CInt] = []
    defer { for descriptor in opened { close(descriptor) } }
    while opened.count < needed {
      let descriptor = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw IOError(
          operation: "start", subject: "with fewer than \(needed) free file descriptors (ulimit -n)",
          code: errno == ENFILE ? "ENFILE" : "EMFILE", reason: "too many open files")
      }
      opened.append(descriptor)
    }
  }

  /// Has the runtime take its own, before files and connections could leave it none: its first timer takes the most of them.
  static func prepareRuntime() async { try? await Task.sleep(for: .nanoseconds(1)) }

  /// Occupies the descriptors that the caller left closed (`>&-`): the next file or socket that is opened would else get their numbers, and what is
  /// meant for standard output. Reading or writing them fails, as it does when they are closed.
  static func occupy() {
    for (descriptor, mode) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
    where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest number that is free: those below are taken.
      _ = unsafe open("/dev/null", mode)
    }
  }
}
