import CSluiceSystem
import CSluiceUV
import SluiceStreams
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A socket of whole messages: of datagrams, UDP or Unix, or a connection of a Unix socket that keeps them (SOCK_SEQPACKET, Linux).
package final class DatagramSocket: LoopResident, @unchecked Sendable {  // touched on its loop only
  /// Where a datagram comes from, or goes to, as the system has it.
  package struct Peer: Hashable, Sendable {
    fileprivate let address: [UInt8]

    /// Whether it can be answered: a Unix socket without a name can't.
    package var hasAddress: Bool { address.dropFirst(MemoryLayout<sa_family_t>.size).contains { $0 != 0 } }

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

  let uvLoop: UVLoop
  private let name: String
  private let kind: Kind
  /// The file of a Unix socket that is ours, which goes when this does.
  private var fileToRemove: SocketFile?
  private var watch: DescriptorWatch
  private var reader: LoopWaiter?
  private var writers: [LoopWaiter] = []
  private var isCancelled = false

  enum Kind {
    case datagrams
    /// For whoever sends to a Unix socket: Linux has no event for room in the queue of one of several receivers.
    case datagramsOfMany
    case connection
  }

  /// Takes over a descriptor. On the loop.
  init(
    _ descriptor: CInt, _ kind: Kind = .datagrams, name: String, operation: String, fileToRemove: SocketFile? = nil,
    on loop: UVLoop
  ) throws {
    uvLoop = loop
    self.name = name
    self.kind = kind
    self.fileToRemove = fileToRemove
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

  /// A Unix socket at a path of ours, for whoever sends there. Its file is as that of `UnixSocket.listen`.
  package static func listen(
    path: String, permissions: FilePermissions? = nil, owner: UInt32? = nil, group: UInt32? = nil,
    on loop: UVLoop = .shared
  ) async throws -> DatagramSocket {
    let access = UnixSocket.Access(permissions: permissions, owner: owner, group: group)
    return try await UnixSocket.listening(path, access, on: loop) { address, access in
      let socket = try open(AF_UNIX, "listen on", path)
      let (descriptor, file) = try UnixSocket.bind(socket, to: address, access, backlog: nil)
      do {
        return try DatagramSocket(
          descriptor, .datagramsOfMany, name: path, operation: "listen on", fileToRemove: file, on: loop)
      } catch {
        file?.remove()
        throw error
      }
    }
  }

  /// A connection of a Unix socket that keeps messages (SOCK_SEQPACKET).
  /// - Parameter timeout: How long to wait for a place in the listener's queue.
  /// - Throws: `IOError`: EPROTONOSUPPORT where there are none (macOS), EPROTOTYPE for a socket of another kind.
  package static func connectPackets(
    _ path: String, timeout: Duration = .seconds(10), on loop: UVLoop = .shared
  ) async throws -> DatagramSocket {
    let address = try UnixAddress(path)
    let deadline = ContinuousClock.now + timeout
    while true {
      do {
        return try await loop.run {
          let descriptor = try open(AF_UNIX, connects: true, "connect", path)
          try unsafe check(address.use(descriptor, systemConnect), descriptor, "connect", path)
          return try connection(descriptor, name: path, operation: "connect", on: loop)
        }
      } catch let error as IOError where error.code == "EAGAIN" {
        // The listener's queue is full: Linux has no event for a place in it.
        guard ContinuousClock.now < deadline else { throw IOError("connect", path, status: UV_ETIMEDOUT.rawValue) }
        try await loop.sleep(for: .milliseconds(10))
      }
    }
  }

  /// Takes over the descriptor of a connection. On the loop.
  static func connection(
    _ descriptor: CInt, name: String, operation: String, on loop: UVLoop
  ) throws -> DatagramSocket {
    let status = sluice_mark_messages(descriptor)
    guard status == 0 else {
      _ = closeDescriptor(descriptor)
      throw IOError(operation, name, status: status)
    }
    return try DatagramSocket(descriptor, .connection, name: name, operation: operation, on: loop)
  }

  static func open(
    _ family: CInt, connects: Bool = false, _ operation: String, _ subject: String
  ) throws -> CInt {
    let descriptor = sluice_message_socket(family, connects)
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

  /// The next message, and where it comes from; an empty one is one. One task at a time.
  /// - Returns: nil once `cancel` was called, or at the end of a connection.
  /// - Throws: `IOError`: ECONNREFUSED if nobody receives what was sent, EMSGSIZE for one that is longer than 256 KiB, which is lost.
  package func receive() async throws -> (bytes: Bytes, peer: Peer)? {
    try await withTaskExecutorPreference(uvLoop) {
      while !isCancelled {
        switch try receiveNow() {
        case .message(let bytes, let peer): return (bytes, peer)
        case .end: return nil
        case .none: break
        }
        let waiter = LoopWaiter()
        reader = waiter
        try start(.readable, "read")
        try await waiter.wait(on: uvLoop)
      }
      return nil
    }
  }

  private enum Received {
    case message(Bytes, Peer)
    case end
  }

  /// On the loop, into whose buffer it reads; what came is copied.
  /// - Returns: nil if there is nothing now.
  private func receiveNow() throws -> Received? {
    guard !watch.isClosed else { return .end }
    var (address, length) = (sockaddr_storage(), CUnsignedInt(MemoryLayout<sockaddr_storage>.size))
    var isMessage = false
    let buffer = unsafe uvLoop.readBuffer.next()
    let count = unsafe sluice_receive_message(
      watch.descriptor, buffer.baseAddress, CUnsignedLong(buffer.count), &address, &length, &isMessage)
    if count == -Int(EAGAIN) { return nil }
    guard count >= 0 else { throw IOError("read", name, status: CInt(clamping: count)) }
    if count == 0 && kind == .connection && !isMessage { return .end }
    let place = unsafe withUnsafeBytes(of: address) { unsafe Array($0.prefix(Int(length))) }
    return .message(Bytes(copying: uvLoop.readBuffer.filled(count).span), Peer(address: place))
  }

  /// Sends a message, when the system has room for it.
  /// - Parameters:
  ///   - peer: nil for the one that this is connected to.
  ///   - isWanted: Asked before it is tried again, while there is no room.
  /// - Throws: `IOError`: EMSGSIZE for one that is too long, ECONNREFUSED for one before that nobody has received; `StreamError.closed` for one that is not wanted any
  ///   more, or once this is closed.
  package func send(
    _ bytes: Bytes, to peer: Peer? = nil, while isWanted: @escaping @Sendable () -> Bool = { true }
  ) async throws {
    try await withTaskExecutorPreference(uvLoop) {
      var pause = Duration.milliseconds(1)
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
        guard isWanted() else { throw StreamError.closed }
        if kind == .datagramsOfMany || sent == -Int(ENOBUFS) {
          // Ours can be written all the time: nobody tells when theirs, or the network's, has room.
          try await uvLoop.sleep(for: pause)
          pause = min(pause * 2, .milliseconds(50))
          continue
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

  /// Nobody receives any more: the file of a Unix socket is gone when that is told. What was sent has been sent.
  package func cancel() {
    uvLoop.perform {
      self.isCancelled = true
      self.fileToRemove.take()?.remove()
      self.reader.take()?.wake()
    }
  }

  /// Ends our half of a connection: its peer reads to an end.
  package func endSending() {
    uvLoop.perform { if !self.watch.isClosed { sluice_end_sending(self.watch.descriptor) } }
  }

  /// Our own address; nil for a Unix socket. On the loop.
  package var localAddress: SocketAddress? {
    unsafe SocketAddress.ofSocket { unsafe getsockname(watch.descriptor, $0, $1) }
  }

  /// Nobody sends any more either: closes the descriptor. Until then the loop keeps this. What a connection's peer has sent and nobody has received is dropped: it
  /// would be told of a reset otherwise, before what it has not read yet.
  package func close() {
    uvLoop.perform {
      if self.kind == .connection {
        var left = Self.mostDropped
        while left > 0, case .message = try? self.receiveNow() { left -= 1 }
      }
      self.loopWillEnd()
    }
  }

  private static let mostDropped = 1024

  /// As `close`, at once.
  package func abort() { uvLoop.perform { self.loopWillEnd() } }

  func loopWillEnd() {
    isCancelled = true
    fileToRemove.take()?.remove()
    watch.close()
    didBecomeReady()
  }
}
