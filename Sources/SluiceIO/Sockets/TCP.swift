import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// TCP connections and listeners.
public enum TCP {
  /// Options of a connection, whichever side began it.
  public struct Options: Sendable {
    /// Sends small writes at once (TCP_NODELAY). Default: true.
    public var noDelay = true
    /// Seconds of silence after which the system probes the peer; nil, the default, never does.
    public var keepAlive: Int?
    /// Bytes that may wait to be written before a write waits. Default: 64 KiB.
    public var writeHighWatermark = SocketStream.defaultHighWatermark

    /// The address, without a port, that a client's socket has; nil, the default, leaves it to the system.
    public var localAddress: String?
    /// The addresses of a host that a client tries. Default: all.
    public var family = Family.any

    public enum Family: Sendable, Hashable {
      case any, ipv4, ipv6
    }

    public init() {}
  }

  /// Listens on one address.
  ///
  /// - Parameters:
  ///   - host: A numeric address or a name; its first address is taken.
  ///   - port: 0 lets the system choose: see `SocketListener.port`.
  ///   - backlog: Connections that may wait to be accepted.
  ///   - sharesPort: Lets listeners on other loops share the port (SO_REUSEPORT); the kernel spreads connections over them.
  /// - Throws: `IOError`.
  public static func listen(
    _ host: String, port: Int, backlog: Int = 1024, sharesPort: Bool = false, options: Options = Options(),
    on loop: UVLoop = .shared
  ) async throws -> SocketListener {
    let addresses = try await Resolver.resolve(host, port: port, on: loop)
    return try await loop.run {
      try listen(addresses[0], backlog: backlog, sharesPort: sharesPort, options: options, on: loop)
    }
  }

  private static func listen(
    _ address: SocketAddress, backlog: Int, sharesPort: Bool, options: Options, on loop: UVLoop
  ) throws -> SocketListener {
    let handle = unsafe try makeHandle(
      on: loop, family: address.isIPv6 ? AF_INET6 : AF_INET, subject: address.description)
    let stream = unsafe UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_stream_t.self)
    do {
      if sharesPort {
        var one: CInt = 1
        let descriptor = unsafe try fileDescriptor(of: stream, subject: address.description)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &one, socklen_t(MemoryLayout<CInt>.size))
      }
      let status = unsafe address.withAddress { unsafe uv_tcp_bind(handle, $0, 0) }
      guard status == 0 else { throw IOError("listen on", address.description, status: status) }
      let bound = unsafe localAddress(of: handle) ?? address
      return try unsafe SocketListener(
        adopting: stream, on: loop, name: bound.description, port: bound.port, backlog: backlog,
        makeClient: { loop in
          guard let client = try? unsafe makeHandle(on: loop, family: nil, subject: "") else { return nil }
          return unsafe UnsafeMutableRawPointer(client).assumingMemoryBound(to: uv_stream_t.self)
        },
        describePeer: { client in
          let tcp = unsafe UnsafeMutableRawPointer(client).assumingMemoryBound(to: uv_tcp_t.self)
          unsafe apply(options, to: tcp)
          return unsafe peerAddress(of: tcp)?.description ?? "a peer that is gone"
        })
    } catch {
      unsafe closeAndFree(stream)
      throw error
    }
  }

  /// Memory for a handle, with a socket of the family if one is given.
  static func makeHandle(
    on loop: UVLoop, family: CInt?, subject: String
  ) throws -> UnsafeMutablePointer<uv_tcp_t> {
    let handle = unsafe UnsafeMutableRawPointer.allocate(
      byteCount: MemoryLayout<uv_tcp_t>.size, alignment: MemoryLayout<uv_tcp_t>.alignment
    ).bindMemory(to: uv_tcp_t.self, capacity: 1)
    let status =
      unsafe family.map { unsafe uv_tcp_init_ex(loop.handle, handle, UInt32($0)) } ?? uv_tcp_init(loop.handle, handle)
    guard status == 0 else {
      unsafe UnsafeMutableRawPointer(handle).deallocate()
      throw IOError("socket for", subject, status: status)
    }
    return unsafe handle
  }

  private static func fileDescriptor(of handle: UnsafeMutablePointer<uv_stream_t>, subject: String) throws -> CInt {
    var descriptor: uv_os_fd_t = -1
    let status = unsafe uv_fileno(
      UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self), &descriptor)
    guard status == 0 else { throw IOError("listen on", subject, status: status) }
    return descriptor
  }

  static func apply(_ options: Options, to handle: UnsafeMutablePointer<uv_tcp_t>) {
    // Either can fail only on a socket that is dead already; its next read says so.
    if options.noDelay { unsafe uv_tcp_nodelay(handle, 1) }
    if let seconds = options.keepAlive, let delay = UInt32(exactly: seconds) {
      unsafe uv_tcp_keepalive(handle, 1, delay)
    }
  }

  private static func localAddress(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress? {
    unsafe address { unsafe uv_tcp_getsockname(handle, $0, $1) }
  }

  static func peerAddress(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress? {
    unsafe address { unsafe uv_tcp_getpeername(handle, $0, $1) }
  }

  private static func address(
    _ ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<CInt>) -> CInt
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = CInt(MemoryLayout<sockaddr_storage>.size)
    let status = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      unsafe ask(UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
    }
    return status == 0 ? SocketAddress(storage) : nil
  }
}
