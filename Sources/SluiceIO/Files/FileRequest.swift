import CSluiceUV
import SluiceStreams

/// One file operation on libuv's thread pool.
@safe final class FileRequest {
  private let request = UnsafeMutablePointer<uv_fs_t>.allocate(capacity: 1)
  private let loop: UVLoop
  private let completion: (Int) -> Void

  private init(loop: UVLoop, completion: @escaping (Int) -> Void) {
    self.loop = loop
    self.completion = completion
  }

  deinit { unsafe request.deallocate() }

  /// Starts an operation; on the loop only.
  /// - Parameters:
  ///   - operation: Calls libuv with the loop, the request and the callback, and returns its status.
  ///   - completion: Is called on the loop, later, with the result: negative is a libuv status.
  static func start(
    on loop: UVLoop,
    _ operation: (UnsafeMutablePointer<uv_loop_t>, UnsafeMutablePointer<uv_fs_t>, uv_fs_cb) -> CInt,
    completion: @escaping (Int) -> Void
  ) {
    let this = FileRequest(loop: loop, completion: completion)
    let request = unsafe this.request
    unsafe request.pointee.data = Unmanaged.passRetained(this).toOpaque()
    let status = unsafe operation(loop.handle, request) { request in
      let this = unsafe Unmanaged<FileRequest>.fromOpaque(request!.pointee.data).takeRetainedValue()
      let result = unsafe Int(request!.pointee.result)
      unsafe uv_fs_req_cleanup(request)
      this.loop.turn { this.completion(result) }
    }
    if status < 0 {
      unsafe Unmanaged.passUnretained(this).release()
      loop.execute { [unsafeCompletion = UncheckedCompletion(completion)] in unsafeCompletion.call(Int(status)) }
    }
  }
}

/// A completion that stays on its loop.
private struct UncheckedCompletion: @unchecked Sendable {
  let call: (Int) -> Void
  init(_ call: @escaping (Int) -> Void) { self.call = call }
}
