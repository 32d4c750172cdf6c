#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The end of the process once something has run.
enum ProcessEnd {
  /// Not `exit`: libuv's destructor would wait for a worker that opens a named pipe, which may take for ever.
  static func leave(with status: Int32) -> Never {
    PassedTerminal.restore()
    fflush(nil)
    _exit(status)
  }
}
