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
    let descriptor = unsafe address.withAddress {
      unsafe sluice_listen($0, address.length, CInt(clamping: backlog), sharesPort)
    }
    guard descriptor >= 0 else { throw IOError("listen on", address.description, status: descriptor) }
    let bound = unsafe SocketAddress.ofSocket { unsafe getsockname(descriptor, $0, $1) } ?? address
    return try SocketListener(adopting: descriptor, on: loop, name: bound.description, port: bound.port) { accepted in
      do {
        let handle = unsafe try makeHandle(on: loop, subject: bound.description)
        let stream = unsafe UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_stream_t.self)
        let status = unsafe uv_tcp_open(handle, accepted)
        guard status == 0 else {
          unsafe closeAndFree(stream)
          throw IOError("accept on", bound.description, status: status)
        }
        unsafe apply(options, to: handle)
        let peer = unsafe SocketAddress.ofSocket { unsafe getpeername(accepted, $0, $1) }
        return unsafe SocketStream(
          adopting: stream, on: loop, name: peer?.description ?? "a peer that is gone",
          highWatermark: options.writeHighWatermark)
      } catch {
        _ = closeDescriptor(accepted)
        throw error
      }
    }
  }

  /// Memory for a handle, without a socket yet.
  static func makeHandle(on loop: UVLoop, subject: String) throws -> UnsafeMutablePointer<uv_tcp_t> {
    let uv = try unsafe loop.handle(for: "socket for", subject)
    let handle = unsafe UnsafeMutableRawPointer.allocate(
      byteCount: MemoryLayout<uv_tcp_t>.size, alignment: MemoryLayout<uv_tcp_t>.alignment
    ).bindMemory(to: uv_tcp_t.self, capacity: 1)
    let status = unsafe uv_tcp_init(uv, handle)
    guard status == 0 else {
      unsafe UnsafeMutableRawPointer(handle).deallocate()
      throw IOError("socket for", subject, status: status)
    }
    unsafe handle.pointee.data = nil
    return unsafe handle
  }

  static func apply(_ options: Options, to handle: UnsafeMutablePointer<uv_tcp_t>) {
    // Either can fail only on a socket that is dead already; its next read says so.
    if options.noDelay { unsafe uv_tcp_nodelay(handle, 1) }
    if let seconds = options.keepAlive, let delay = UInt32(exactly: seconds) {
      unsafe uv_tcp_keepalive(handle, 1, delay)
    }
  }
}
