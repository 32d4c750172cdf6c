import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Name resolution by the system's resolver, on libuv's thread pool.
public enum Resolver {
  /// All addresses of a name, in the system's order (RFC 6724). A numeric address is returned as it is.
  ///
  /// - Throws: `IOError` with the resolver's word ("unknown node or service"), or if the name holds a NUL or the port is not in 0...65535.
  public static func resolve(_ host: String, port: Int, on loop: UVLoop = .shared) async throws -> [SocketAddress] {
    guard (0...65535).contains(port) else {
      throw IOError(
        operation: "resolve", subject: host, code: "EINVAL", reason: "invalid port \(port) (expected 0–65535)")
    }
    // The system would stop there, and look up a name that nobody has checked.
    guard !host.utf8.contains(0) else {
      throw IOError(operation: "resolve", subject: host, code: "EINVAL", reason: "the host name contains a NUL byte")
    }
    if let address = SocketAddress(numeric: host, port: port) { return [address] }
    let request = ResolveRequest(host: host, port: port)
    return try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        loop.perform { request.start(on: loop, continuation) }
      }
    } onCancel: {
      loop.perform { request.cancel() }
    }
  }
}

/// A look-up under way. On its loop only.
@safe private final class ResolveRequest: @unchecked Sendable {
  private let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
  private let host: String
  private let port: Int
  private var loop: UVLoop?
  private var continuation: CheckedContinuation<[SocketAddress], any Error>?
  private var isCancelled = false

  init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  deinit { unsafe request.deallocate() }

  func start(on loop: UVLoop, _ continuation: CheckedContinuation<[SocketAddress], any Error>) {
    if isCancelled { return continuation.resume(throwing: CancellationError()) }
    self.loop = loop
    self.continuation = continuation
    let usability = loop.usability
    guard usability == 0, let uv = try? unsafe loop.libuv(for: "resolve", host) else {
      return unsafe finish(status: usability, nil)
    }
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    unsafe hints.ai_family = AF_UNSPEC
    unsafe request.pointee.data = Unmanaged.passRetained(self).toOpaque()
    let status = unsafe uv_getaddrinfo(
      uv, request,
      { request, status, result in
        let this = unsafe Unmanaged<ResolveRequest>.fromOpaque(request!.pointee.data).takeRetainedValue()
        unsafe this.finish(status: status, result)
        if let result = unsafe result { unsafe uv_freeaddrinfo(result) }
      }, host, String(port), &hints)
    if status != 0 {
      unsafe Unmanaged.passUnretained(self).release()
      unsafe finish(status: status, nil)
    }
  }

  func cancel() {
    isCancelled = true
    guard let continuation else { return }
    self.continuation = nil
    unsafe uv_cancel(UnsafeMutableRawPointer(request).assumingMemoryBound(to: uv_req_t.self))
    continuation.resume(throwing: CancellationError())
  }

  private func finish(status: CInt, _ result: UnsafeMutablePointer<addrinfo>?) {
    guard let continuation else { return }
    self.continuation = nil
    var addresses: [SocketAddress] = []
    var next = unsafe result
    while let info = unsafe next {
      if let address = unsafe info.pointee.ai_addr, let address = unsafe SocketAddress(address) {
        addresses.append(address)
      }
      unsafe next = info.pointee.ai_next
    }
    loop?.turn {
      if status != 0 {
        continuation.resume(throwing: IOError("resolve", host, status: status))
      } else if addresses.isEmpty {
        continuation.resume(throwing: IOError("resolve", host, status: UV_EAI_NONAME.rawValue))
      } else {
        continuation.resume(returning: addresses)
      }
    }
  }
}
