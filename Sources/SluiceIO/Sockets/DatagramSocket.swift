import CSluiceSystem
import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A socket of datagrams, UDP or Unix. What is sent and received is one datagram, whole.
package final class DatagramSocket: LoopResident, @unchecked Sendable {  // touched on its loop only
  /// Where a datagram comes from, or goes to, as the system has it.
  package struct Peer: Hashable, Sendable {
    fileprivate let address: [UInt8]

    /// nil for a Unix socket.
    package var socketAddress: SocketAddress? {
      unsafe SocketAddress.ofSocket { place, length in
        unsafe address.withUnsafeBytes { bytes in
          guard let base = bytes.baseAddress, unsafe bytes.count <= Int(length.pointee) else { return -1 }
          unsafe memcpy(place, base, bytes.count)
          return 0
        }
      }
    }
  }

  package static let largest = 65_536

  let uvLoop: UVLoop
  private let name: String
  private var watch: DescriptorWatch
  private var reader: LoopWaiter?
  private var writers: [LoopWaiter] = []
  private var isCancelled = false

  /// Takes over a descriptor. On the loop.
  private init(_ descriptor: CInt, name: String, operation: String, on loop: UVLoop) throws {
    uvLoop = loop
    self.name = name
    watch = try DescriptorWatch(descriptor, on: loop, operation: operation, subject: name)
    unsafe watch.belong(to: self) { owner, _, _ in
      unsafe Unmanaged<DatagramSocket>.fromOpaque(owner)._withUnsafeGuaranteedRef { $0.didBecomeReady() }
    }
  }

  // MARK: opening

  /// A UDP socket whose datagrams go to one address, and come from there.
  package static func connect(
    _ host: String, port: Int, options: TCP.Options = TCP.Options(), on loop: UVLoop = .shared
  ) async throws -> DatagramSocket {
    let found = try await Resolver.resolve(host, port: port, on: loop)
    let fitting = found.first { options.family == .any || $0.isIPv6 == (options.family == .ipv6) }
    guard let address = fitting else {
      throw IOError(operation: "resolve", subject: host, code: "EAI_FAMILY", reason: "no address of that family")
    }
    var own: SocketAddress?
    if let local = options.localAddress { own = try await Resolver.resolve(local, port: 0, on: loop).first }
    return try await loop.run { [own] in
      let descriptor = try open(address.isIPv6 ? AF_INET6 : AF_INET, "connect", address.description)
      if let own {
        try unsafe check(
          own.withAddress { unsafe systemBind(descriptor, $0, own.length) }, descriptor, "bind", own.description)
      }
      try unsafe check(
        address.withAddress { unsafe systemConnect(descriptor, $0, address.length) }, descriptor, "connect",
        address.description)
      return try DatagramSocket(descriptor, name: address.description, operation: "connect", on: loop)
    }
  }

  /// A UDP socket at an address of ours, for whoever sends there.
  package static func listen(_ host: String, port: Int, on loop: UVLoop = .shared) async throws -> DatagramSocket {
    let address = try await Resolver.resolve(host, port: port, on: loop)[0]
    return try await loop.run {
      let descriptor = try open(address.isIPv6 ? AF_INET6 : AF_INET, "listen on", address.description)
      try unsafe check(
        address.withAddress { unsafe systemBind(descriptor, $0, address.length) }, descriptor, "listen on",
        address.description)
      return try DatagramSocket(descriptor, name: address.description, operation: "listen on", on: loop)
    }
  }

  /// A Unix socket whose datagrams go to one path. It has a name of the system's choice, so that it can be answered (Linux).
  package static func connect(path: String, on loop: UVLoop = .shared) async throws -> DatagramSocket {
    let address = try UnixAddress(path)
    return try await loop.run {
      let descriptor = try open(AF_UNIX, "connect", path)
      #if os(Linux)
        // unix(7), "autobind".
        var family = sa_family_t(AF_UNIX)
        _ = unsafe withUnsafeMutableBytes(of: &family) {
          unsafe bind(
            descriptor, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self),
            socklen_t(MemoryLayout<sa_family_t>.size))
        }
      #endif
      try unsafe check(address.use(descriptor, systemConnect), descriptor, "connect", path)
      return try DatagramSocket(descriptor, name: path, operation: "connect", on: loop)
    }
  }

  private static func open(_ family: CInt, _ operation: String, _ subject: String) throws -> CInt {
    let descriptor = sluice_datagram_socket(family)
    guard descriptor >= 0 else { throw IOError(operation, subject, status: descriptor) }
    return descriptor
  }

  private static func check(_ result: CInt, _ descriptor: CInt, _ operation: String, _ subject: String) throws {
    if result == 0 { return }
    let failure = errno
    _ = closeDescriptor(descriptor)
    throw IOError(operation, subject, status: -failure)
  }

  // MARK: receiving and sending

  private func didBecomeReady() {
    watch.stop([.readable, .writable])
    reader.take()?.wake()
    let waiting = writers
    writers = []
    for writer in waiting { writer.wake() }
  }

  /// The next datagram, and where it comes from; an empty one is one. One task at a time.
  /// - Returns: nil once `cancel` was called.
  /// - Throws: `IOError`: ECONNREFUSED if nobody receives what was sent.
  package func receive() async throws -> (bytes: Bytes, peer: Peer)? {
    try await withTaskExecutorPreference(uvLoop) {
      while !isCancelled {
        if let received = try receiveNow() { return received }
        let waiter = LoopWaiter()
        reader = waiter
        try start(.readable, "read")
        try await waiter.wait(on: uvLoop)
      }
      return nil
    }
  }

  /// On the loop.
  private func receiveNow() throws -> (bytes: Bytes, peer: Peer)? {
    var address = [UInt8](repeating: 0, count: MemoryLayout<sockaddr_storage>.size)
    var length = CUnsignedInt(address.count)
    var buffer = [UInt8](repeating: 0, count: Self.largest)
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe address.withUnsafeMutableBytes { place in
        unsafe sluice_receive_datagram(
          watch.descriptor, bytes.baseAddress, CUnsignedLong(bytes.count), place.baseAddress, &length)
      }
    }
    if count == -Int(EAGAIN) { return nil }
    guard count >= 0 else { throw IOError("read", name, status: CInt(clamping: count)) }
    return (Bytes(buffer.prefix(count)), Peer(address: Array(address.prefix(Int(length)))))
  }

  /// Sends a datagram, when the system has room for it.
  /// - Parameter peer: nil for the one that this is connected to.
  /// - Throws: `IOError`: EMSGSIZE for one that is too long, ECONNREFUSED for one before that nobody has received.
  package func send(_ bytes: Bytes, to peer: Peer? = nil) async throws {
    try await withTaskExecutorPreference(uvLoop) {
      while true {
        guard !watch.isClosed else { throw StreamError.closed }
        let sent = unsafe bytes.span.withUnsafeBytes { data in
          unsafe (peer?.address ?? []).withUnsafeBytes { place in
            unsafe sluice_send_datagram(
              watch.descriptor, data.baseAddress, CUnsignedLong(data.count), place.baseAddress,
              CUnsignedInt(place.count))
          }
        }
        if sent >= 0 { return }
        // A Unix socket's receiver has no room; a network's queue is full.
        guard sent == -Int(EAGAIN) || sent == -Int(ENOBUFS) else {
          throw IOError("write", name, status: CInt(clamping: sent))
        }
        let waiter = LoopWaiter()
        writers.append(waiter)
        try start(.writable, "write")
        try await waiter.wait(on: uvLoop)
      }
    }
  }

  private func start(_ readiness: Readiness, _ operation: String) throws {
    guard !watch.isClosed else { throw StreamError.closed }
    let status = watch.start(readiness)
    if status != 0 { throw IOError(operation, name, status: status) }
    // What else is waited for stays so.
    if reader != nil { _ = watch.start(.readable) }
  }

  /// Nobody receives any more. What was sent has been sent.
  package func cancel() {
    uvLoop.perform {
      self.isCancelled = true
      self.reader.take()?.wake()
    }
  }

  /// Our own address; nil for a Unix socket. On the loop.
  package var localAddress: SocketAddress? {
    unsafe SocketAddress.ofSocket { unsafe getsockname(watch.descriptor, $0, $1) }
  }

  /// Nobody sends any more either: closes the descriptor. Until then the loop keeps this.
  package func close() {
    uvLoop.perform { self.loopWillEnd() }
  }

  func loopWillEnd() {
    isCancelled = true
    watch.close()
    didBecomeReady()
  }
}
