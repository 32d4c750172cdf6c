import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One file operation on libuv's thread pool.
@safe final class FileRequest {
  fileprivate let request = UnsafeMutablePointer<uv_fs_t>.allocate(capacity: 1)
  private let loop: UVLoop
  fileprivate let completion: (Int, UnsafeMutablePointer<uv_fs_t>) -> Void

  private init(loop: UVLoop, completion: @escaping (Int, UnsafeMutablePointer<uv_fs_t>) -> Void) {
    self.loop = loop
    unsafe self.completion = completion
  }

  deinit { unsafe request.deallocate() }

  /// Starts an operation; on the loop only.
  /// - Parameters:
  ///   - operation: Calls libuv with the loop, the request and the callback, and returns its status.
  ///   - completion: Is called on the loop, later, with the result (negative is a libuv status; ECANCELED when the loop was
  ///     stopped, EMFILE when it has no descriptors of its own) and the request, which holds what else was asked for. It must hold what the operation reads or writes: the
  ///     thread pool goes on with that until then, whatever has become of whoever asked.
  static func start(
    on loop: UVLoop,
    _ operation: (UnsafeMutablePointer<uv_loop_t>, UnsafeMutablePointer<uv_fs_t>, uv_fs_cb) -> CInt,
    completion: @escaping (Int, UnsafeMutablePointer<uv_fs_t>) -> Void
  ) {
    let this = unsafe FileRequest(loop: loop, completion: completion)
    let request = unsafe this.request
    let usability = loop.usability
    guard usability == 0, let handle = try? unsafe loop.libuv(for: "", "") else { return this.fail(usability) }
    unsafe request.pointee.data = Unmanaged.passRetained(this).toOpaque()
    let status = unsafe operation(handle, request) { request in
      let this = unsafe Unmanaged<FileRequest>.fromOpaque(request!.pointee.data).takeRetainedValue()
      this.loop.turn { unsafe this.completion(Int(request!.pointee.result), request!) }
      unsafe uv_fs_req_cleanup(request)
    }
    if status < 0 {
      unsafe Unmanaged.passUnretained(this).release()
      this.fail(status)
    }
  }

  private func fail(_ status: CInt) {
    loop.execute { [failed = FailedRequest(request: self)] in failed.complete(status) }
  }

  /// `close(2)`, which may wait for a disk or a file server, and says at the latest whether what was written is there.
  /// - Parameter completion: Is called with a libuv status. On the loop, as this is.
  static func close(_ descriptor: CInt, on loop: UVLoop, completion: @escaping (CInt) -> Void = { _ in }) {
    let canStart = loop.usability == 0
    unsafe start(on: loop) { loop, request, callback in
      unsafe uv_fs_close(loop, request, descriptor, callback)
    } completion: { result, _ in
      // On a loop that was stopped it was not even tried.
      if canStart && result != UV_ECANCELED.rawValue { return completion(CInt(clamping: result)) }
      completion(closeDescriptor(descriptor) == 0 ? 0 : -errno)
    }
  }
}

/// A request that could not be started, on its way to the next turn of its loop.
private struct FailedRequest: @unchecked Sendable {
  let request: FileRequest
  func complete(_ status: CInt) { unsafe request.completion(Int(status), request.request) }
}

/// `close(2)`, which a stream's own `close` hides.
func closeDescriptor(_ descriptor: CInt) -> CInt {
  #if canImport(Glibc)
    Glibc.close(descriptor)
  #else
    Darwin.close(descriptor)
  #endif
}
