import ArgumentParser
import Sluice
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A socket that the tool was started with, to be served: `fd:N`, `fd:NAME` or `fd:` in the place of an address.
struct InheritedSocket: Sendable {
  let descriptor: CInt
  /// Whether it listens; otherwise it is a connection.
  let listens: Bool
  /// Whether its clients have no addresses.
  let isUnix: Bool
  /// Whether it was standard input, output or error, which are the null device now.
  let wasStandard: Bool

  /// An endpoint whose text may name such a socket: `listen+ws+fd:3/path` is `listen+ws:` with it.
  /// - Returns: the endpoint at an address that counts for nothing, and the socket; nil for another endpoint.
  static func endpoint(_ text: String) throws -> (Endpoint, InheritedSocket)? {
    guard let colon = text.firstIndex(of: ":") else { return nil }
    let scheme = text[..<colon].lowercased()
    guard scheme.hasPrefix("listen+"), scheme.hasSuffix("+fd") || scheme == "listen+fd" else { return nil }
    let rest = text[text.index(after: colon)...]
    let name = rest.prefix { $0 != "/" }
    let path = rest[name.endIndex...]
    let kind = scheme.dropLast(3)
    guard ["listen", "listen+tls", "listen+ws", "listen+wss", "listen+sse+http", "listen+sse+https"].contains(kind)
    else {
      throw UsageError(
        "unknown scheme '\(scheme)': write listen+fd:\(name), for TCP and Unix sockets, or listen+tls+fd:, listen+ws+fd:, listen+wss+fd:, listen+sse+http+fd: or listen+sse+https+fd:"
      )
    }
    guard path.isEmpty || kind.hasPrefix("listen+ws") || kind.hasPrefix("listen+sse") else {
      throw UsageError("'\(scheme):' has no path, but '\(text)' has")
    }
    let served = kind == "listen" ? "listen+tcp" : kind
    return (try Endpoint("\(served)://localhost:0\(path)"), try InheritedSocket(named: String(name)))
  }

  private init(named name: String) throws {
    let descriptor: CInt
    if let number = CInt(name), name.allSatisfy(\.isNumber) {
      descriptor = number
    } else {
      descriptor = try Activation.shared.descriptor(named: name)
    }
    var listens: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 else {
      throw UsageError(
        errno == ENOTSOCK
          ? "descriptor \(descriptor) is not a socket"
          : "descriptor \(descriptor) is not open: a socket must be passed to sluice as that (systemd: .socket unit)")
    }
    self.listens = listens != 0
    var address = sockaddr()
    length = socklen_t(MemoryLayout<sockaddr>.size)
    isUnix =
      unsafe getsockname(descriptor, &address, &length) == 0 && Int32(address.sa_family) == Int32(AF_UNIX)
    wasStandard = descriptor <= STDERR_FILENO
    // A standard descriptor is to stay one: others are opened under its number otherwise.
    self.descriptor = descriptor > STDERR_FILENO ? descriptor : try Self.moved(descriptor)
  }

  /// Another descriptor of what a standard one is, and null devices for all standard ones that are the same: inetd has a connection as all three,
  /// and what is written to standard error would go to the client.
  private static func moved(_ descriptor: CInt) throws -> CInt {
    var status = stat()
    let moved = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
    guard moved >= 0, unsafe fstat(descriptor, &status) == 0 else {
      throw IOError(
        operation: "use", subject: "descriptor \(descriptor)", code: "EMFILE", reason: "too many open files")
    }
    let null = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
    defer { if null > STDERR_FILENO { close(null) } }
    for standard in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where null >= 0 {
      var other = stat()
      if unsafe fstat(standard, &other) == 0, other.st_dev == status.st_dev, other.st_ino == status.st_ino {
        dup2(null, standard)
      }
    }
    return moved
  }
}

/// What systemd says of the sockets that it has passed (sd_listen_fds(3)).
struct Activation: Sendable {
  private let names: [String]
  /// Why there are none.
  private let reason: String?

  /// Read once, and taken from the environment: it is not for commands that are run.
  @MainActor static func prepare() { _ = shared }

  static let shared = Activation()

  private static let first: CInt = 3
  private static let most = 1024

  private init() {
    let variables = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
    let values = variables.map { name in unsafe getenv(name).map { unsafe String(cString: $0) } }
    for name in variables { unsafe unsetenv(name) }
    guard let count = values[1].flatMap({ Int($0) }), (1...Self.most).contains(count) else {
      names = []
      reason = "no sockets were passed (LISTEN_FDS is not set)"
      return
    }
    guard let process = values[0].flatMap({ pid_t($0) }), process == getpid() else {
      names = []
      reason =
        "the sockets are for process \(values[0] ?? "?") (LISTEN_PID), and this is \(getpid()): a shell must start sluice with 'exec'"
      return
    }
    // They are not for commands that are run, those that are not served neither.
    for descriptor in Self.first..<Self.first + CInt(count) { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    let given = (values[2] ?? "").split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    names = (0..<count).map { $0 < given.count && !given[$0].isEmpty ? given[$0] : "unknown" }
    reason = nil
  }

  /// - Parameter name: Empty for the only one.
  func descriptor(named name: String) throws(UsageError) -> CInt {
    if let reason { throw UsageError("'fd:\(name)': \(reason)") }
    let found = names.indices.filter { name.isEmpty || names[$0] == name }
    guard let index = found.first, found.count == 1 else {
      throw UsageError(
        found.isEmpty
          ? "no socket is called '\(name)': there are \(names.joined(separator: ", "))"
          : "\(found.count) sockets are meant by 'fd:\(name)': write one of their numbers, from \(Self.first) on")
    }
    return Self.first + CInt(index)
  }
}

/// Who may connect to a Unix socket, as the command line says it.
struct SocketMode: ExpressibleByArgument, Sendable {
  let mode: mode_t

  init?(argument: String) {
    guard let mode = mode_t(argument, radix: 8), mode <= 0o777, argument.allSatisfy(\.isNumber) else { return nil }
    self.mode = mode
  }
}

/// `USER`, `USER:GROUP` or `:GROUP`, by name or number.
struct SocketOwner: Sendable {
  var user: UInt32?
  var group: UInt32?

  init(_ text: String) throws(UsageError) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    if let name = parts.first, !name.isEmpty {
      let known = unsafe getpwnam(name).map { unsafe $0.pointee.pw_uid }
      user = known ?? UInt32(name)
      if user == nil || user == .max { throw UsageError("--socket-owner: there is no user '\(name)'") }
    }
    if parts.count > 1, !parts[1].isEmpty {
      let known = unsafe getgrnam(parts[1]).map { unsafe $0.pointee.gr_gid }
      group = known ?? UInt32(parts[1])
      if group == nil || group == .max { throw UsageError("--socket-owner: there is no group '\(parts[1])'") }
    }
    if user == nil && group == nil {
      throw UsageError("--socket-owner must be USER, USER:GROUP or :GROUP, not '\(text)'")
    }
  }
}
