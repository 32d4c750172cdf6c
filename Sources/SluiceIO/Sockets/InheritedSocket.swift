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

extension SocketListener {
  /// Takes over a socket that this process was started with: one that listens, TCP or Unix, as systemd's socket activation gives it from descriptor 3
  /// on (sd_listen_fds(3)), or a connection that was accepted already, as inetd gives it. Of such a one this is a listener that gives it, and ends.
  ///
  /// ```swift
  /// let listener = try await SocketListener.adopt(3)
  /// for try await connection in listener { … }
  /// ```
  ///
  /// The descriptor is ours from now on, whether this throws or not: it is closed in the end, and not inherited. One that listens does not block any more,
  /// which others who share it notice. The file of a Unix socket stays: whoever made it removes it.
  /// - Parameter options: Of TCP connections.
  /// - Throws: `IOError`: EBADF, ENOTSOCK, EPROTOTYPE for a socket of datagrams, EINVAL for one that neither listens nor is connected.
  public static func adopt(
    _ descriptor: CInt, options: TCP.Options = TCP.Options(), on loop: UVLoop = .shared
  ) async throws -> SocketListener {
    try await adopt(descriptor, isShared: false, options: options, on: loop)
  }

  /// - Parameter isShared: Whether another listener has taken it over already: this one gets another descriptor of it.
  package static func adopt(
    _ descriptor: CInt, isShared: Bool, options: TCP.Options, on loop: UVLoop
  ) async throws -> SocketListener {
    try await loop.run {
      let own = isShared ? sluice_duplicate(descriptor) : descriptor
      guard own >= 0 else { throw IOError("listen on", "descriptor \(descriptor)", status: own) }
      return try adopt(own, options, on: loop)
    }
  }

  private static func adopt(_ descriptor: CInt, _ options: TCP.Options, on loop: UVLoop) throws -> SocketListener {
    let kind = sluice_own_socket(descriptor)
    guard kind >= 0 else {
      // What is no socket, or nothing, is not ours to close.
      if kind != -EBADF && kind != -ENOTSOCK { _ = closeDescriptor(descriptor) }
      throw IOError("listen on", "descriptor \(descriptor)", status: kind)
    }
    let address = unsafe SocketAddress.ofSocket { unsafe getsockname(descriptor, $0, $1) }
    let name = address?.description ?? UnixSocket.path(ofSocket: descriptor) ?? "descriptor \(descriptor)"
    let adopt: (CInt) throws -> SocketStream = { accepted in
      let watch = try DescriptorWatch(accepted, on: loop, operation: "accept on", subject: name)
      guard address != nil else { return SocketStream(watch, on: loop, name: "a client of \(name)") }
      let peer = unsafe SocketAddress.ofSocket { unsafe getpeername(accepted, $0, $1) }
      return SocketStream(watch, on: loop, name: peer?.description ?? "disconnected peer", options)
    }
    guard kind == SLUICE_CONNECTED else {
      return try SocketListener(
        adopting: descriptor, on: loop, name: name, port: address?.port ?? 0, adopt: adopt)
    }
    // What is watched is another descriptor of the connection, so that its stream can have this one.
    let other = sluice_duplicate(descriptor)
    guard other >= 0 else {
      _ = closeDescriptor(descriptor)
      throw IOError("listen on", name, status: other)
    }
    do {
      return try SocketListener(
        adopting: other, on: loop, name: name, port: address?.port ?? 0, connection: descriptor, adopt: adopt)
    } catch {
      _ = closeDescriptor(descriptor)
      throw error
    }
  }
}
