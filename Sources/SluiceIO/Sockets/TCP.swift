import CSluiceSystem
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
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
    let known = address.port == 0 ? nil : address
    guard let bound = unsafe SocketAddress.ofSocket({ unsafe getsockname(descriptor, $0, $1) }) ?? known else {
      // Nobody could connect to a port that the system chose and does not tell.
      let failure = errno
      close(descriptor)
      throw IOError("listen on", address.description, status: -failure)
    }
    return try SocketListener(adopting: descriptor, on: loop, name: bound.description, port: bound.port) { accepted in
      let watch = try DescriptorWatch(accepted, on: loop, operation: "accept on", subject: bound.description)
      let peer = unsafe SocketAddress.ofSocket { unsafe getpeername(accepted, $0, $1) }
      return SocketStream(watch, on: loop, name: peer?.description ?? "disconnected peer", options)
    }
  }
}

extension SocketStream {
  /// A TCP connection.
  convenience init(_ watch: consuming DescriptorWatch, on loop: UVLoop, name: String, _ options: TCP.Options) {
    // Either can fail only on a socket that is dead already; its next read says so.
    if options.noDelay { sluice_set_no_delay(watch.descriptor) }
    if let seconds = options.keepAlive, let delay = CInt(exactly: seconds) {
      sluice_keep_alive(watch.descriptor, delay)
    }
    self.init(watch, on: loop, name: name, highWatermark: options.writeHighWatermark)
  }
}
