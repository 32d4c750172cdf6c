import CSluiceUV
import SluiceStreams

/// A libuv write under way: it keeps the stream and the bytes alive.
@safe final class WriteRequest {
  private let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)
  private let stream: SocketStream
  /// What is written. An abort empties the stream's queue while the system may still be reading it.
  let chunks: [Bytes]
  let byteCount: Int

  init(stream: SocketStream, chunks: [Bytes]) {
    self.stream = stream
    self.chunks = chunks
    byteCount = chunks.reduce(0) { $0 + $1.count }
  }

  deinit { unsafe request.deallocate() }

  func start() -> UnsafeMutablePointer<uv_write_t> {
    unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    return unsafe request
  }

  func discard() { unsafe Unmanaged<WriteRequest>.fromOpaque(request.pointee.data).release() }

  static func finish(_ request: UnsafeMutablePointer<uv_write_t>, status: CInt) {
    let this = unsafe Unmanaged<WriteRequest>.fromOpaque(request.pointee.data).takeRetainedValue()
    this.stream.didWrite(this.byteCount, status: status)
  }
}

/// A libuv shutdown under way.
@safe final class ShutdownRequest {
  private let request = UnsafeMutablePointer<uv_shutdown_t>.allocate(capacity: 1)
  private let stream: SocketStream

  init(stream: SocketStream) { self.stream = stream }

  deinit { unsafe request.deallocate() }

  func start() -> UnsafeMutablePointer<uv_shutdown_t> {
    unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    return unsafe request
  }

  func discard() { unsafe Unmanaged<ShutdownRequest>.fromOpaque(request.pointee.data).release() }

  static func finish(_ request: UnsafeMutablePointer<uv_shutdown_t>, status: CInt) {
    let this = unsafe Unmanaged<ShutdownRequest>.fromOpaque(request.pointee.data).takeRetainedValue()
    this.stream.didShutDown(status: status)
  }
}
