import SluiceIO

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The processor time of a loop's thread, which any thread may read: what others take from the machine is not in it.
package struct ProcessorTime: Sendable {
  private let clock: clockid_t

  package init(of loop: UVLoop) async throws {
    clock = try await loop.run {
      #if canImport(Glibc)
        var clock = clockid_t()
        unsafe pthread_getcpuclockid(pthread_self(), &clock)
        return clock
      #else
        return CLOCK_PROCESS_CPUTIME_ID
      #endif
    }
  }

  package var now: Duration {
    var time = timespec()
    unsafe clock_gettime(clock, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }
}
