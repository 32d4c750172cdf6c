#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The descriptors 0, 1 and 2.
enum StandardDescriptors {
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
