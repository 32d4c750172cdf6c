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

/// A Unix socket that accepts connections of whole messages (SOCK_SEQPACKET, Linux): a stream of these. While nobody reads it, new peers wait.
package final class PacketListener: ReadableStream, LoopResident, @unchecked Sendable {  // touched on its loop only
  package typealias Output = DatagramSocket

  let uvLoop: UVLoop
  private let path: String
  private var watch: DescriptorWatch
  private let fileToRemove: SocketFile?
  private var reader: LoopWaiter?
  private let onExhaustion: @Sendable (IOError) -> Void
  private var isExhausted = false

  private static let pause = Duration.milliseconds(100)

  /// Takes over a descriptor that listens. On the loop.
  private init(
    _ descriptor: CInt, _ path: String, _ file: SocketFile?, on loop: UVLoop,
    _ onExhaustion: @escaping @Sendable (IOError) -> Void
  ) throws {
    uvLoop = loop
    self.path = path
    fileToRemove = file
    self.onExhaustion = onExhaustion
    watch = try DescriptorWatch(descriptor, on: loop, operation: "listen on", subject: path)
    unsafe watch.belong(to: self) { owner, _, _ in
      unsafe Unmanaged<PacketListener>.fromOpaque(owner)._withUnsafeGuaranteedRef { $0.mayAccept() }
    }
  }

  /// Listens at a path: its file is as that of `UnixSocket.listen`.
  /// - Parameter onExhaustion: Is called when there is no descriptor or memory for a connection, once until there is again.
  /// - Throws: `IOError`, as `UnixSocket.listen`; EPROTONOSUPPORT where there are no such sockets (macOS).
  package static func listen(
    _ path: String, permissions: FilePermissions? = nil, owner: UInt32? = nil, group: UInt32? = nil,
    backlog: Int = 1024, on loop: UVLoop = .shared, onExhaustion: @escaping @Sendable (IOError) -> Void = { _ in }
  ) async throws -> PacketListener {
    let access = UnixSocket.Access(permissions: permissions, owner: owner, group: group)
    return try await UnixSocket.listening(path, access, on: loop) { address, access in
      let socket = try DatagramSocket.open(AF_UNIX, connects: true, "listen on", path)
      let (descriptor, file) = try UnixSocket.bind(socket, to: address, access, backlog: backlog)
      do { return try PacketListener(descriptor, path, file, on: loop, onExhaustion) } catch {
        file?.remove()
        throw error
      }
    }
  }

  /// The next connection. One task at a time.
  /// - Returns: nil once this was cancelled.
  package func read() async throws -> DatagramSocket? {
    try await withTaskExecutorPreference(uvLoop) {
      while !watch.isClosed {
        let accepted = sluice_accept(watch.descriptor)
        switch accepted {
        case 0...:
          isExhausted = false
          return try DatagramSocket.connection(
            accepted, name: "a client of \(path)", operation: "accept on", on: uvLoop)
        case -EAGAIN:
          let waiter = LoopWaiter()
          reader = waiter
          let status = watch.start(.readable)
          if status != 0 { throw IOError("listen on", path, status: status) }
          try await waiter.wait(on: uvLoop)
        case -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM:
          if !isExhausted { onExhaustion(IOError("accept on", path, status: accepted)) }
          isExhausted = true
          try await uvLoop.sleep(for: Self.pause)
        case -EBADF, -EINVAL, -ENOTSOCK, -EOPNOTSUPP, -EFAULT: throw IOError("accept on", path, status: accepted)
        default: continue  // accept(2): of this connection, which is gone
        }
      }
      return nil
    }
  }

  private func mayAccept() {
    watch.stop(.readable)
    reader.take()?.wake()
  }

  /// Stops listening. Connections that were accepted go on.
  package func cancel(_ reason: (any Error)?) { uvLoop.perform { self.loopWillEnd() } }

  func loopWillEnd() {
    if watch.isClosed { return }
    fileToRemove?.remove()
    watch.close()
    reader.take()?.wake()
  }
}
