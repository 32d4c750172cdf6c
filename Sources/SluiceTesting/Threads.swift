#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Names the calling thread.
func currentThread() -> UInt {
  #if canImport(Glibc)
    UInt(pthread_self())
  #else
    UInt(bitPattern: unsafe pthread_self())
  #endif
}

func sleepOneMillisecond() { usleep(1000) }

/// Runs `body` on a thread of its own: what blocks must not block the threads that tasks share.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
  try await withCheckedThrowingContinuation { continuation in
    let work = unsafe Unmanaged.passRetained(Work { continuation.resume(with: Result { try body() }) })
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let code = unsafe pthread_create(
      &thread, nil,
      { argument in
        #if canImport(Glibc)
          let work = unsafe Unmanaged<Work>.fromOpaque(argument!)
        #else
          let work = unsafe Unmanaged<Work>.fromOpaque(argument)
        #endif
        unsafe work.takeRetainedValue().body()
        return nil
      }, work.toOpaque())
    precondition(code == 0, "no thread for the simulation")
    #if canImport(Glibc)
      pthread_detach(thread)
    #else
      if let thread { unsafe pthread_detach(thread) }
    #endif
  }
}

private final class Work: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
