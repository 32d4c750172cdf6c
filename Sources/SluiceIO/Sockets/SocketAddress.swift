import CSluiceUV

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An IPv4 or IPv6 address with a port.
public struct SocketAddress: Sendable, CustomStringConvertible {
  private let storage: sockaddr_storage

  /// From the first address that `sockaddr` points at.
  init?(_ address: UnsafePointer<sockaddr>) {
    var storage = sockaddr_storage()
    let length: Int
    switch CInt(unsafe address.pointee.sa_family) {
    case AF_INET: length = MemoryLayout<sockaddr_in>.size
    case AF_INET6: length = MemoryLayout<sockaddr_in6>.size
    default: return nil
    }
    unsafe withUnsafeMutableBytes(of: &storage) {
      unsafe $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: length))
    }
    self.storage = storage
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
    // The system's text ends at a NUL.
    guard let port = UInt16(exactly: port), !host.utf8.contains(0) else { return nil }
    var storage = sockaddr_storage()
    let isAddress = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
      let raw = UnsafeMutableRawPointer(pointer)
      return unsafe uv_ip4_addr(host, CInt(port), raw.assumingMemoryBound(to: sockaddr_in.self)) == 0
        || uv_ip6_addr(host, CInt(port), raw.assumingMemoryBound(to: sockaddr_in6.self)) == 0
    }
    guard isAddress else { return nil }
    self.storage = storage
  }

  public var isIPv6: Bool { CInt(storage.ss_family) == AF_INET6 }

  public var port: Int {
    unsafe withAddress { address in
      unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        // The port stands at the same place in sockaddr_in and sockaddr_in6.
        unsafe Int(UInt16(bigEndian: $0.pointee.sin_port))
      }
    }
  }

  /// The numeric address without the port.
  public var host: String {
    unsafe withAddress { address in
      unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
        guard unsafe uv_ip_name(address, text.baseAddress!, 64) == 0 else { return "?" }
        return unsafe String(cString: text.baseAddress!)
      }
    }
  }

  /// The address without the port.
  public var ipAddress: IPAddress {
    unsafe withAddress { address in
      if isIPv6 {
        return unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          unsafe withUnsafeBytes(of: $0.pointee.sin6_addr) { unsafe IPAddress(v6: $0) }
        }
      }
      return unsafe UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
        unsafe IPAddress(v4: UInt32(bigEndian: $0.pointee.sin_addr.s_addr))
      }
    }
  }

  /// "127.0.0.1:80", "[::1]:80".
  public var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

  func withAddress<R>(_ body: (UnsafePointer<sockaddr>) -> R) -> R {
    unsafe withUnsafePointer(to: storage) { pointer in
      unsafe body(UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self))
    }
  }

  var length: socklen_t {
    socklen_t(isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
  }
}
