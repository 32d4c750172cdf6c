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
  /// - Throws: `IOError`: EADDRINUSE if somebody listens there or the file is no socket, EACCES, ENAMETOOLONG …
  public static func listen(
    _ path: String, backlog: Int = 1024, on loop: UVLoop = .shared
  ) async throws -> SocketListener {
    let address = try UnixAddress(path)
    let lock = address.isAbstract ? nil : try await FolderLock.take(ofFolderOf: path, on: loop)
    let listener = try await loop.run { try listen(address, backlog: backlog, on: loop) }
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

  private static func listen(_ address: UnixAddress, backlog: Int, on loop: UVLoop) throws -> SocketListener {
    let descriptor = try makeSocket("listen on", address)
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
    guard systemListen(descriptor, CInt(clamping: backlog)) == 0 else {
      let failure = errno
      close(descriptor)
      throw IOError("listen on", address.path, status: -failure)
    }
    let file = address.isAbstract ? nil : SocketFile(at: address.path)
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

/// `connect(2)`, `bind(2)` and `listen(2)`, which methods of the same names would hide.
private func systemConnect(_ descriptor: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> CInt {
  unsafe connect(descriptor, address, length)
}

func systemBind(_ descriptor: CInt, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> CInt {
  unsafe bind(descriptor, address, length)
}

private func systemListen(_ descriptor: CInt, _ backlog: CInt) -> CInt { listen(descriptor, backlog) }

/// A path in the form that the system takes.
private struct UnixAddress {
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
