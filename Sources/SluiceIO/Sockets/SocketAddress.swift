import CSluiceSystem
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

// Addresses as the system takes and gives them.
extension SocketAddress {
  /// From the first address that `sockaddr` points at.
  init?(_ address: UnsafePointer<sockaddr>) {
    switch CInt(unsafe address.pointee.sa_family) {
    case AF_INET:
      self = unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        unsafe SocketAddress(
          IPAddress(v4: UInt32(bigEndian: $0.pointee.sin_addr.s_addr)), port: UInt16(bigEndian: $0.pointee.sin_port))
      }
    case AF_INET6:
      self = unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
        unsafe SocketAddress(
          withUnsafeBytes(of: $0.pointee.sin6_addr) { unsafe IPAddress(v6: $0) },
          port: UInt16(bigEndian: $0.pointee.sin6_port), scope: $0.pointee.sin6_scope_id)
      }
    default: return nil
    }
  }

  /// What `getsockname` or `getpeername` says; nil for a socket that has no such address, as a Unix socket.
  static func ofSocket(
    _ ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt
  ) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      let address = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self)
      guard unsafe ask(address, &length) == 0 else { return nil }
      return unsafe SocketAddress(address)
    }
  }

  /// A numeric address: "127.0.0.1", "::1", "fe80::1%eth0".
  /// - Returns: nil if it is none, or the port is not in 0...65535.
  public init?(numeric host: String, port: Int) {
    // A zone that the system reads ends at a NUL.
    guard !host.utf8.contains(0), let port = UInt16(exactly: port), let address = IPAddress(host) else { return nil }
    let zone = host.wire.divided(at: UInt8(ascii: "%"))?.behind.text
    self.init(address, port: port, scope: zone.map { unsafe if_nametoindex($0) } ?? 0)
  }

  func withAddress<R>(_ body: (UnsafePointer<sockaddr>) -> R) -> R {
    var storage = sockaddr_storage()
    return unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      let raw = UnsafeMutableRawPointer(pointer)
      if isIPv6 {
        let address = unsafe raw.assumingMemoryBound(to: sockaddr_in6.self)
        unsafe address.pointee.sin6_family = sa_family_t(AF_INET6)
        unsafe address.pointee.sin6_port = UInt16(port).bigEndian
        unsafe address.pointee.sin6_scope_id = scope
        unsafe withUnsafeMutableBytes(of: &address.pointee.sin6_addr) { unsafe $0.copyBytes(from: ipAddress.bytes) }
      } else {
        let address = unsafe raw.assumingMemoryBound(to: sockaddr_in.self)
        unsafe address.pointee.sin_family = sa_family_t(AF_INET)
        unsafe address.pointee.sin_port = UInt16(port).bigEndian
        unsafe withUnsafeMutableBytes(of: &address.pointee.sin_addr) { unsafe $0.copyBytes(from: ipAddress.bytes) }
      }
      return unsafe body(UnsafePointer(raw.assumingMemoryBound(to: sockaddr.self)))
    }
  }

  var length: socklen_t {
    socklen_t(isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
  }
}
