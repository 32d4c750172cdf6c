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

/// Unix domain sockets. On Linux a path that begins with "@" names an abstract socket, which has no file.
///
/// ```swift
/// let listener = try await UnixSocket.listen("/run/app.sock")
/// let socket = try await UnixSocket.connect("@app")
/// ```
public enum UnixSocket {
  /// Connects to a listening socket.
  /// - Parameter timeout: How long to wait for a place in the listener's queue. Default: 10 seconds.
  /// - Throws: `IOError`: ENOENT, ECONNREFUSED, ENAMETOOLONG (107 bytes are allowed), ETIMEDOUT …
  public static func connect(
    _ path: String, timeout: Duration = .seconds(10), on loop: UVLoop = .shared
  ) async throws -> SocketStream {
    let address = try UnixAddress(path)
    let deadline = ContinuousClock.now + timeout.bounded
    while true {
      do {
        return try await loop.run { try connect(address, on: loop) }
      } catch let error as IOError where error.code == "EAGAIN" {
        // The listener's queue is full: Linux has no event for a place in it.
        guard ContinuousClock.now < deadline else { throw IOError("connect", path, status: UV_ETIMEDOUT.rawValue) }
        try await loop.sleep(for: .milliseconds(10))
      }
    }
  }

  /// Listens at a path, and removes the file when it stops.
  ///
  /// A socket file at which nobody listens any more, left over by a process that died, is replaced. Of several that begin to listen at one path
  /// at once, one does. Nothing else is ever removed: neither
  /// another kind of file, nor one that has taken the place of this listener's own.
  ///
  /// Who may connect is what permissions, owner and group of the file say (unix(7)). Those that are given here it has before anybody can connect.
  /// - Parameters:
  ///   - permissions: nil, the default, is what the process's mask leaves of all.
  ///   - owner: A user's number; nil, the default, is ours. To name another takes privileges.
  ///   - group: A group's number; nil, the default, is ours or, as chmod(2) has it, the folder's. One of our groups, or it takes privileges.
  /// - Throws: `IOError`: EADDRINUSE if somebody listens there or the file is no socket, EACCES, ENAMETOOLONG …, EPERM for an owner or a group that is not
  ///   ours to give, EINVAL for any of these with an abstract socket, which has none.
  public static func listen(
    _ path: String, permissions: FilePermissions? = nil, owner: UInt32? = nil, group: UInt32? = nil,
    backlog: Int = 1024,
    on loop: UVLoop = .shared
  ) async throws -> SocketListener {
    try await listening(path, Access(permissions: permissions, owner: owner, group: group), on: loop) {
      try listen($0, $1, backlog: backlog, on: loop)
    }
  }

  /// Makes something that listens at a path, while nobody else begins to in that folder.
  static func listening<Listener: Sendable>(
    _ path: String, _ access: Access, on loop: UVLoop,
    _ make: @escaping @Sendable (UnixAddress, Access) throws -> Listener
  ) async throws -> Listener {
    let address = try UnixAddress(path)
    if address.isAbstract && !access.isDefault {
      throw IOError(
        operation: "listen on", subject: path, code: "EINVAL",
        reason: "an abstract socket has no permissions and no owner")
    }
    let lock = address.isAbstract ? nil : try await FolderLock.take(ofFolderOf: path, on: loop)
    let listener = try await loop.run { try make(address, access) }
    withExtendedLifetime(lock) {}
    return listener
  }

  private static func connect(_ address: UnixAddress, on loop: UVLoop) throws -> SocketStream {
    let descriptor = try makeSocket("connect", address)
    guard unsafe address.use(descriptor, systemConnect) == 0 else {
      let failure = errno
      close(descriptor)
      throw IOError("connect", address.path, status: -failure)
    }
    let watch = try DescriptorWatch(descriptor, on: loop, operation: "connect", subject: address.path)
    return SocketStream(watch, on: loop, name: address.path)
  }

  /// Who may connect to a socket's file.
  struct Access: Sendable {
    let permissions: FilePermissions?
    let owner: UInt32?
    let group: UInt32?

    var isDefault: Bool { permissions == nil && owner == nil && group == nil }
  }

  private static func listen(
    _ address: UnixAddress, _ access: Access, backlog: Int, on loop: UVLoop
  ) throws -> SocketListener {
    let (descriptor, file) = try bind(try makeSocket("listen on", address), to: address, access, backlog: backlog)
    do {
      return try SocketListener(
        adopting: descriptor, on: loop, name: address.path, port: 0, fileToRemove: file
      ) { accepted in
        let watch = try DescriptorWatch(accepted, on: loop, operation: "accept on", subject: address.path)
        return SocketStream(watch, on: loop, name: "a client of \(address.path)")
      }
    } catch {
      file?.remove()
      throw error
    }
  }

  /// Binds a socket, which is closed if this throws, to an address, and has it listen.
  /// - Parameter backlog: nil for a socket of datagrams, which has no connections.
  /// - Returns: it, and the file that it has made.
  static func bind(
    _ descriptor: CInt, to address: UnixAddress, _ access: Access, backlog: Int?
  ) throws -> (descriptor: CInt, file: SocketFile?) {
    // Linux makes the file with the mode of the socket, as far as the mask lets it: until it has the one that is wanted, it is ours alone.
    if access.permissions != nil { fchmod(descriptor, S_IRUSR | S_IWUSR) }
    var status = unsafe address.use(descriptor, systemBind)
    if status != 0, errno == EADDRINUSE {
      if let file = abandonedFile(of: address) {
        file.remove()
        status = unsafe address.use(descriptor, systemBind)
      } else {
        errno = EADDRINUSE
      }
    }
    guard status == 0 else {
      let failure = errno
      close(descriptor)
      throw IOError("listen on", address.path, status: -failure)
    }
    let file = address.isAbstract ? nil : SocketFile(at: address.path)
    var listening: CInt = 0
    if !access.isDefault {
      listening = unsafe sluice_set_access(
        address.path, access.permissions.map { Int($0.rawValue) } ?? -1, access.owner ?? uid_t.max,
        access.group ?? gid_t.max)
    }
    if listening == 0, let backlog, systemListen(descriptor, CInt(clamping: backlog)) != 0 { listening = -errno }
    guard listening == 0 else {
      close(descriptor)
      file?.remove()
      throw IOError("listen on", address.path, status: listening)
    }
    return (descriptor, file)
  }

  /// The socket file at an address, if nobody listens there any more. Never waits.
  private static func abandonedFile(of address: UnixAddress) -> SocketFile? {
    guard !address.isAbstract, let file = SocketFile(at: address.path),
      let descriptor = try? makeSocket("connect", address)
    else { return nil }
    defer { close(descriptor) }
    return unsafe address.use(descriptor, systemConnect) != 0 && errno == ECONNREFUSED ? file : nil
  }

  private static func makeSocket(_ operation: String, _ address: UnixAddress) throws -> CInt {
    let descriptor = sluice_socket(AF_UNIX)
    guard descriptor >= 0 else { throw IOError(operation, address.path, status: descriptor) }
    return descriptor
  }
}

extension UnixSocket {
  /// Where a Unix socket is bound; nil for another kind of socket, and for one without a name.
  static func path(ofSocket descriptor: CInt) -> String? {
    var address = sockaddr_un()
    var length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let status = unsafe withUnsafeMutableBytes(of: &address) { bytes in
      unsafe getsockname(descriptor, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress!, &length)
    }
    let offset = MemoryLayout<sockaddr_un>.size - MemoryLayout.size(ofValue: address.sun_path)
    guard status == 0, address.sun_family == sa_family_t(AF_UNIX), Int(length) > offset else { return nil }
    let count = Int(length) - offset
    var name = unsafe withUnsafeBytes(of: address.sun_path) { unsafe Array($0.prefix(count)) }
    if name.first == 0 {
      name[0] = UInt8(ascii: "@")
    } else {
      name = Array(name.prefix { $0 != 0 })
    }
    return name.text
  }
}

/// `connect(2)`, `bind(2)` and `listen(2)`, which methods of the same names would hide.
func systemConnect(_ descriptor: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> CInt {
  unsafe connect(descriptor, address, length)
}

func systemBind(_ descriptor: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> CInt {
  unsafe bind(descriptor, address, length)
}

private func systemListen(_ descriptor: CInt, _ backlog: CInt) -> CInt { listen(descriptor, backlog) }

/// A path in the form that the system takes.
struct UnixAddress {
  let path: String
  let isAbstract: Bool
  private let storage: sockaddr_un
  private let length: socklen_t

  init(_ path: String) throws {
    self.path = path
    #if os(Linux)
      isAbstract = path.utf8.begins(with: "@")
    #else
      isAbstract = false
    #endif
    var storage = sockaddr_un()
    storage.sun_family = sa_family_t(AF_UNIX)
    let capacity = MemoryLayout.size(ofValue: storage.sun_path)
    var name = Array(path.utf8)
    guard !name.isEmpty, !name.contains(0) else { throw IOError("use", path, status: UV_EINVAL.rawValue) }
    guard name.count < capacity else {
      throw IOError(
        operation: "use", subject: path, code: "ENAMETOOLONG",
        reason: "socket path too long: \(name.count) bytes (limit \(capacity - 1))")
    }
    if isAbstract { name[0] = 0 }
    unsafe withUnsafeMutableBytes(of: &storage.sun_path) { unsafe $0.copyBytes(from: name) }
    self.storage = storage
    // unix(7): the name of an abstract socket is as long as the address says; a file's ends with a zero byte.
    let offset = MemoryLayout<sockaddr_un>.size - capacity
    length = socklen_t(offset + name.count + (isAbstract ? 0 : 1))
  }

  func use(_ descriptor: CInt, _ call: (CInt, UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
    unsafe withUnsafePointer(to: storage) { pointer in
      unsafe call(descriptor, UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), length)
    }
  }
}
