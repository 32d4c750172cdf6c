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
    guard unsafe fstat(STDIN_FILENO, &input) == 0 else { return errno == EBADF }
    guard unsafe stat("/dev/null", &null) == 0 else { return false }
    return input.st_mode & S_IFMT == S_IFCHR && input.st_rdev == null.st_rdev
  }

  /// Whether there are descriptors for the runtime: its timers, libuv, and epoll. Where there is none, they end the process, and not with an error.
  /// - Throws: `IOError`: EMFILE, ENFILE.
  static func checkAvailable() throws {
    let needed = 12
    var opened: [CInt] = []
    defer { for descriptor in opened { close(descriptor) } }
    while opened.count < needed {
      // Not a file, which may be missing (a container without /dev), or not be for us.
      var ends: (CInt, CInt) = (-1, -1)
      let result = unsafe withUnsafeMutableBytes(of: &ends) { unsafe pipe($0.bindMemory(to: CInt.self).baseAddress!) }
      guard result == 0 else {
        let code = errno
        // Whatever else it is says nothing about how many there are.
        guard code == EMFILE || code == ENFILE else { return }
        throw IOError(
          operation: "start", subject: "with fewer than \(needed) free file descriptors (ulimit -n)",
          code: code == ENFILE ? "ENFILE" : "EMFILE", reason: "too many open files")
      }
      opened += [ends.0, ends.1]
    }
  }

  /// Has the runtime take its own, before files and connections could leave it none: its first timer takes the most of them.
  static func prepareRuntime() async { try? await Task.sleep(for: .nanoseconds(1)) }

  /// Occupies the descriptors that the caller left closed (`>&-`): the next file or socket that is opened would else get their numbers, and what is
  /// meant for standard output. Reading or writing them fails, as it does when they are closed.
  static func occupy() {
    for (descriptor, mode) in [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
    where fcntl(descriptor, F_GETFD) < 0 && errno == EBADF {
      // The lowest number that is free: those below are taken.
      _ = unsafe open("/dev/null", mode)
    }
  }
}
