import CSluiceRuntime
import CSluiceSystem
import Dispatch
import SluiceStreams
import Synchronization

#if canImport(Darwin)
  import CoreFoundation
  import Darwin
#endif

extension UVLoop {
  /// Whether a thread runs the shared loop that it has not started.
  static let isSharedHosted = Atomic<Bool>(false)

  /// Runs the shared loop on the calling thread until `body` has ended.
  ///
  /// ```swift
  /// // main.swift
  /// try UVLoop.runShared {
  ///   try await WebSocket.serve("ws://127.0.0.1:8000") { ws in try await ws.pipe(ws) }
  /// }
  /// ```
  ///
  /// A program that begins so has one thread, as long as it starts no other: Linux then need not count who uses a connection, at each
  /// read and each write. `body`, its child tasks, and what the library does for them run on the loop; detached tasks, `Task.sleep`,
  /// files and names bring threads of their own, and work as they do everywhere.
  ///
  /// On the main thread, what is isolated to the main actor or was given to the main dispatch queue runs here too, between the events of
  /// the loop. (On Darwin the shared loop keeps its own thread, and this one runs its run loop.)
  ///
  /// If the shared loop runs already, it moves here, with all that is on it. Afterwards it goes on, on a thread of its own.
  /// - Parameter body: Runs with the shared loop as its preferred executor.
  /// - Returns: what `body` returns.
  /// - Throws: what `body` throws; `IOError` EBUSY while another call runs the loop, EDEADLK on the loop's own thread, ENOSYS on the main thread of a
  ///   program whose libdispatch lets nobody else run the main queue.
  @available(*, noasync, message: "to run a task on the shared loop, use executorPreference: UVLoop.shared")
  public static func runShared<Success: Sendable>(
    _ body: @escaping @Sendable () async throws -> Success
  ) throws -> Success {
    guard isSharedHosted.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
    else { throw IOError(operation: "run", subject: "the shared loop", code: "EBUSY", reason: "already running") }
    defer { isSharedHosted.store(false, ordering: .releasing) }
    let loop = shared
    if loop.isCurrent {
      throw IOError(
        operation: "run", subject: "the shared loop", code: "EDEADLK", reason: "called on the loop's own thread")
    }
    let outcome = Outcome<Success>()
    #if canImport(Darwin)
      if pthread_main_np() != 0 {
        loop.startOwnThread()
        Task(executorPreference: loop) {
          await outcome.set(body)
          DispatchQueue.main.async { CFRunLoopStop(CFRunLoopGetCurrent()) }
        }
        while outcome.isMissing { CFRunLoopRun() }
        return try outcome.get()
      }
    #endif
    loop.endOwnThread()
    defer { loop.startOwnThread() }
    #if !canImport(Darwin)
      let mainQueue = try MainQueue(on: loop)
      defer { mainQueue?.leave() }
    #endif
    Task(executorPreference: loop) {
      await outcome.set(body)
      loop.execute { loop.isThreadLeaving = true }
    }
    loop.runUntilLeft()
    return try outcome.get()
  }

  private final class Outcome<Success: Sendable>: Sendable {
    private let result = Mutex<Result<Success, any Error>?>(nil)

    var isMissing: Bool { result.withLock { $0 == nil } }

    nonisolated(nonsending) func set(_ body: @Sendable () async throws -> Success) async {
      let ended: Result<Success, any Error>
      do { ended = .success(try await body()) } catch { ended = .failure(error) }
      result.withLock { $0 = ended }
    }

    /// - Throws: what the body has thrown; or, but that can't be, that it has not ended.
    func get() throws -> Success {
      guard let result = result.withLock(\.self) else { throw CancellationError() }
      return try result.get()
    }
  }
}

#if !canImport(Darwin)
  /// What was given to the main dispatch queue, the main actor's work among it: runs in turns of a loop that runs on the main thread.
  final class MainQueue: LoopResident {
    private var watch: DescriptorWatch

    /// - Returns: nil on any other thread than the main one.
    init?(on loop: UVLoop) throws(IOError) {
      guard sluice_is_main_thread() else { return nil }
      try Self.checkHooks(areThere: sluice_has_main_queue_hooks())
      // Where there is no descriptor for it, libdispatch ends the process.
      let status = sluice_can_open(2)
      guard status == 0 else { throw IOError("run", "the main dispatch queue", status: status) }
      watch = try DescriptorWatch(
        sluice_main_queue_descriptor(), isBorrowed: true, on: loop, operation: "run", subject: "the main dispatch queue"
      )
      unsafe watch.belong(to: self) { owner, _, _ in
        unsafe Unmanaged<MainQueue>.fromOpaque(owner)._withUnsafeGuaranteedRef { $0.run() }
      }
      _ = watch.start(.readable)
    }

    /// - Throws: `IOError` ENOSYS: this libdispatch lets nobody else run the main queue, and without that the main actor would stand still.
    static func checkHooks(areThere: Bool) throws(IOError) {
      if areThere { return }
      throw IOError(
        operation: "run", subject: "the main dispatch queue", code: "ENOSYS",
        reason:
          "this libdispatch does not export _dispatch_get_main_queue_handle_4CF and _dispatch_main_queue_callback_4CF; "
          + "call runShared on another thread than the main one")
    }

    private func run() { sluice_run_main_queue(watch.descriptor) }

    func leave() { watch.close() }

    // The shared loop is never stopped.
    func loopWillEnd() {}
  }
#endif
