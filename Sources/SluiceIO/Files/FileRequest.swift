import CSluiceUV
import SluiceStreams

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
  ///   - completion: Is called on the loop, later, with the result (negative is a libuv status) and the request, which holds what
  ///     else was asked for.
  static func start(
    on loop: UVLoop,
    _ operation: (UnsafeMutablePointer<uv_loop_t>, UnsafeMutablePointer<uv_fs_t>, uv_fs_cb) -> CInt,
    completion: @escaping (Int, UnsafeMutablePointer<uv_fs_t>) -> Void
  ) {
    let this = unsafe FileRequest(loop: loop, completion: completion)
    let request = unsafe this.request
    unsafe request.pointee.data = Unmanaged.passRetained(this).toOpaque()
    let status = unsafe operation(loop.handle, request) { request in
      let this = unsafe Unmanaged<FileRequest>.fromOpaque(request!.pointee.data).takeRetainedValue()
      this.loop.turn { unsafe this.completion(Int(request!.pointee.result), request!) }
      unsafe uv_fs_req_cleanup(request)
    }
    if status < 0 {
      unsafe Unmanaged.passUnretained(this).release()
      loop.execute { [failed = FailedRequest(request: this)] in failed.complete(status) }
    }
  }
}

/// A request that could not be started, on its way to the next turn of its loop.
private struct FailedRequest: @unchecked Sendable {
  let request: FileRequest
  func complete(_ status: CInt) { unsafe request.completion(Int(status), request.request) }
}
