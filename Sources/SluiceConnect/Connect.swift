import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

#if canImport(Glibc)
  import Glibc
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
    // A Unix socket is on this machine: no proxy leads to it, and none's credentials are its business.
    let proxy =
      options.unixSocket == nil
      ? try options.proxy.proxy(for: origin) { name in unsafe getenv(name).map { unsafe String(cString: $0) } } : nil
    return try await withTaskExecutorPreference(loop) {
      var way = Way(options: options, loop: loop, start: loop.now)
      return try await way.go(to: origin, through: proxy)
    }
  }
}

/// One connection under way. On its loop only.
private struct Way {
  let options: ConnectOptions
  let loop: UVLoop
  let start: Duration

  mutating func go(to origin: Origin, through proxy: Proxy?) async throws -> Connect.ByteStream {
    var stream: Connect.ByteStream
    if let path = options.unixSocket {
      stream = try await UnixSocket.connect(path, on: loop)
    } else {
      stream = try await connect(proxy?.host ?? origin.host, port: proxy?.port ?? origin.port)
    }
    if let proxy {
      if proxy.kind == .https {
        do {
          stream = try await secure(stream, to: proxy.host, proxy.tls, .proxyTLS)
        } catch let error as TLSError {
          throw ConnectError.proxyTLS(error)
        }
      }
      try await tunnel(stream, to: origin, through: proxy)
    }
    return origin.isSecure ? try await secure(stream, to: origin.host, options.tls, .tls) : stream
  }

  private func connect(_ host: String, port: Int) async throws -> SocketStream {
    try await TCP.connect(host, port: port, timeout: limit(.connect), options: options.tcp, on: loop)
  }

  private func secure(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, to name: String, _ context: TLSClientContext?, _ step: ConnectStep
  ) async throws -> TLSStream {
    let context = try context ?? TLSClientContext.system()
    return try await limited(step, stream) { try await context.connect(over: stream, to: name) }
  }

  private func tunnel(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, to origin: Origin, through proxy: Proxy
  ) async throws {
    do {
      try await limited(.proxy, stream) {
        switch proxy.kind {
        case .http, .https: try await askHTTP(stream, for: origin, proxy)
        case .socks5: try await askSOCKS(stream, for: origin, proxy)
        }
      }
    } catch {
      stream.abort(error)
      throw error
    }
  }

  private func askHTTP(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, for origin: Origin, _ proxy: Proxy
  ) async throws {
    let credentials = try proxy.credentials.map { try BasicCredentials($0) }
    var tunnel = try HTTPTunnel(to: origin, credentials: credentials, headers: proxy.headers)
    try await stream.write(tunnel.request)
    while let bytes = try await stream.read() {
      if try tunnel.consume(bytes) { return }
    }
    throw ConnectError.proxyEndedEarly
  }

  private func askSOCKS(
    _ stream: some PolledDuplexStream<Bytes, Bytes>, for origin: Origin, _ proxy: Proxy
  ) async throws {
    do {
      var socks = try SOCKS5(origin, credentials: proxy.credentials)
      try await stream.write(socks.greeting)
      while let bytes = try await stream.read() {
        var step = try socks.consume(bytes)
        while case .send(let answer) = step {
          try await stream.write(answer)
          step = try socks.consume(Bytes())
        }
        if case .connected(let rest) = step {
          guard rest.isEmpty else { throw ConnectError.proxyEarlyBytes(rest.count) }
          return
        }
      }
    } catch let error as SOCKSError {
      throw ConnectError.socks(error)
    }
    throw ConnectError.proxyEndedEarly
  }

  // MARK: time

  /// What a step may take of the time that is left.
  private func limit(_ step: ConnectStep) -> Duration {
    let left = max(options.timeout - (loop.now - start), .zero)
    return options.stepTimeouts[step].map { min($0, left) } ?? left
  }

  private func limited<Result: Sendable>(
    _ step: ConnectStep, _ stream: some PolledDuplexStream<Bytes, Bytes>, _ body: () async throws -> Result
  ) async throws -> Result {
    let limit = limit(step)
    let named = options.stepTimeouts[step] == limit ? limit : options.timeout
    let timer = loop.schedule(after: limit) { stream.abort(ConnectError.timeout(step, named)) }
    defer { loop.cancelTimer(timer) }
    return try await body()
  }
}
