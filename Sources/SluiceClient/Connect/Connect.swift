import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The way to an origin: a connection, through a proxy if there is one, in TLS if the origin speaks it.
public enum Connect {
  public typealias ByteStream = any PolledDuplexStream<Bytes, Bytes>

  /// Connects.
  ///
  /// ```swift
  /// let stream = try await Connect.open(Origin(host: "example.com", port: 443, isSecure: true))
  /// ```
  /// - Throws: `ConnectError`, `IOError` of the network, `TLSError` of the origin's TLS, `HTTPFieldError` for a header that can't be
  ///   sent. Nothing stays open then.
  public static func open(
    _ origin: Origin, options: ConnectOptions = ConnectOptions(), on loop: UVLoop = .shared
  ) async throws -> ByteStream {
    try await openRoute(to: origin, forRequests: false, options, on: loop).stream
  }

  /// Connects for requests of `http:` and `https:`. Those of `http:` are given to an HTTP proxy themselves: a tunnel (CONNECT) to another port
  /// than 443 is what proxies refuse by default.
  package static func openForRequests(
    to origin: Origin, options: ConnectOptions, on loop: UVLoop
  ) async throws -> RequestRoute {
    try await openRoute(to: origin, forRequests: true, options, on: loop)
  }

  private static func openRoute(
    to origin: Origin, forRequests: Bool, _ options: ConnectOptions, on loop: UVLoop
  ) async throws -> RequestRoute {
    // A Unix socket is on this machine: no proxy leads to it, and none's credentials are its business.
    guard options.unixSocket == nil else {
      return RequestRoute(try await open(origin, options, on: loop) { try await $0.go(to: origin, through: nil) })
    }
    try origin.check()
    let proxy = try options.proxy.proxy(for: origin) { name in unsafe getenv(name).map { unsafe String(cString: $0) } }
    if let proxy, forRequests, !origin.isSecure, proxy.kind != .socks5 {
      let forwarding = try RequestRoute.Forwarding(proxy)
      return RequestRoute(try await open(origin, options, on: loop) { try await $0.go(to: proxy) }, forwarding)
    }
    return RequestRoute(try await open(origin, options, on: loop) { try await $0.go(to: origin, through: proxy) })
  }

  private static func open(
    _ origin: Origin, _ options: ConnectOptions, on loop: UVLoop,
    _ go: @escaping @Sendable (Way) async throws -> ByteStream
  ) async throws -> ByteStream {
    try await withTaskExecutorPreference(loop) {
      try await go(Way(options: options, loop: loop, start: loop.now))
    }
  }
}

/// One connection under way. On its loop only.
private struct Way: Sendable {
  let options: ConnectOptions
  let loop: UVLoop
  let start: Duration

  func go(to origin: Origin, through proxy: Proxy?) async throws -> Connect.ByteStream {
    var stream: Connect.ByteStream
    if let path = options.unixSocket {
      stream = try await UnixSocket.connect(path, on: loop)
    } else if let proxy {
      stream = try await go(to: proxy)
      stream = try await tunnel(stream, to: origin, through: proxy)
    } else {
      stream = try await connect(origin.host, port: origin.port)
    }
    return origin.isSecure ? try await secure(stream, to: origin.host, options.tls, .tls) : stream
  }

  func go(to proxy: Proxy) async throws -> Connect.ByteStream {
    let stream = try await connect(proxy.host, port: proxy.port)
    guard proxy.kind == .https else { return stream }
    do { return try await secure(stream, to: proxy.host, proxy.tls, .proxyTLS) } catch let error as TLSError {
      throw ConnectError.proxyTLS(error)
    }
  }

  private func connect(_ host: String, port: Int) async throws -> SocketStream {
    let host = options.addresses["\(host.lowercasedASCII):\(port)"] ?? host
    return try await TCP.connect(host, port: port, timeout: limit(.connect).time, options: options.tcp, on: loop)
  }

  private func secure(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, to name: String, _ context: TLSClientContext?, _ step: ConnectStep
  ) async throws -> TLSStream {
    let context = try context ?? TLSClientContext.system()
    return try await limited(step, stream) { try await context.connect(over: stream, to: name) }
  }

  /// - Returns: the stream to the origin, which may have spoken already.
  private func tunnel(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, to origin: Origin, through proxy: Proxy
  ) async throws -> Connect.ByteStream {
    do {
      let early = try await limited(.proxy, stream) {
        switch proxy.kind {
        case .http, .https: try await askHTTP(stream, for: origin, proxy)
        case .socks5: try await askSOCKS(stream, for: origin, proxy)
        }
      }
      return PrefixedStream.stream(stream, behind: early)
    } catch {
      stream.abort(error)
      throw error
    }
  }

  private func askHTTP(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, for origin: Origin, _ proxy: Proxy
  ) async throws -> Bytes {
    let credentials = try proxy.credentials.map { try BasicCredentials($0) }
    var tunnel = try HTTPTunnel(to: origin, credentials: credentials, headers: proxy.headers)
    try await stream.write(tunnel.request)
    do {
      while let bytes = try await stream.read() {
        switch try tunnel.consume(bytes) {
        case .wantsMore: break
        case .connected(let early): return early
        case .refused(let response, let rest):
          throw ConnectError.proxyRefused(
            status: response.status.code, headers: response.headerFields,
            bodyStart: await RefusalBody.start(of: response, behind: rest, from: stream))
        }
      }
    } catch let error as HTTPHeadError {
      throw ConnectError.proxyMalformed(error)
    }
    throw ConnectError.proxyEndedEarly
  }

  private func askSOCKS(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, for origin: Origin, _ proxy: Proxy
  ) async throws -> Bytes {
    do {
      var socks = try SOCKS5(origin, credentials: proxy.credentials)
      try await stream.write(socks.greeting)
      while let bytes = try await stream.read() {
        var step = try socks.consume(bytes)
        while case .send(let answer) = step {
          try await stream.write(answer)
          step = try socks.consume(Bytes())
        }
        if case .connected(let early) = step { return early }
      }
    } catch let error as SOCKSError {
      throw ConnectError.socks(error)
    }
    throw ConnectError.proxyEndedEarly
  }

  // MARK: time

  private func limit(_ step: ConnectStep) -> (time: Duration, named: Duration) {
    options.limit(of: step, within: max(options.timeout - (loop.now - start), .zero))
  }

  private func limited<Result: Sendable>(
    _ step: ConnectStep, _ stream: some PolledDuplexStream<Bytes, Bytes>, _ body: () async throws -> Result
  ) async throws -> Result {
    let (limit, named) = limit(step)
    let timer = loop.schedule(after: limit) { stream.abort(ConnectError.timeout(step, named)) }
    defer { loop.cancelTimer(timer) }
    do { return try await body() } catch { throw ConnectError.during(step, error) }
  }
}
