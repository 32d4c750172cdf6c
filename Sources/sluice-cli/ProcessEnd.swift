#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The end of the process once something has run.
enum ProcessEnd {
  /// Not `exit`: libuv's destructor would take from the loops' threads, which run to the last, what they use, and wait for a worker that opens
  /// a file. One run in some hundred was aborted by that.
  static func leave(with status: Int32) -> Never {
    fflush(nil)
    _exit(status)
  }
}
