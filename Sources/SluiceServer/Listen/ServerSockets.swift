import SluiceHTTP
import SluiceIO
import SluiceStreams
import SluiceTLS

/// The listening sockets of one server: one on each of its loops, all on the same port.
package struct ServerSockets: Sendable {
  package let listeners: [SocketListener]
  /// Where they listen, with the port that the system chose if 0 was asked for.
  package let url: String
  package let port: Int
  /// Loops that were started for this server, and end with it.
  private let ownLoops: [UVLoop]

  /// - Parameter loop: What serves, where the options name no several, which are started for the server.
  /// - Throws: `IOError`; `TLSError.invalidOption` if scheme and certificates disagree.
  package static func listen(
    _ url: ConnectionURL, _ options: ListenOptions, on loop: UVLoop = .shared
  ) async throws -> ServerSockets {
    let (isSecure, loops) = (options.tls != nil, options.loops)
    guard (url.scheme == "wss" || url.scheme == "https") == isSecure else {
      throw TLSError.invalidOption(
        "server certificates",
        reason: "\(url.scheme): " + (isSecure ? "does not use certificates" : "needs certificates (options.tls)"))
    }
    var ownLoops: [UVLoop] = []
    var listeners: [SocketListener] = []
    var port = url.port
    do {
      if loops > 1 { for index in 0..<loops { ownLoops.append(try UVLoop(name: "sluice-loop-\(index)")) } }
      for loop in ownLoops.isEmpty ? [loop] : ownLoops {
        let listener: SocketListener
        if let descriptor = options.descriptor {
          listener = try await SocketListener.adopt(
            descriptor, isShared: !listeners.isEmpty, options: options.tcp, on: loop)
        } else {
          listener = try await TCP.listen(
            url.host, port: port, backlog: options.backlog, sharesPort: loops > 1, options: options.tcp, on: loop)
        }
        port = listener.port
        listeners.append(listener)
      }
    } catch {
      for listener in listeners { listener.cancel(error) }
      for loop in ownLoops { loop.stop() }
      throw error
    }
    let description =
      options.descriptor == nil ? url.description(withPort: port) : Self.description(of: url, at: listeners[0])
    return ServerSockets(listeners: listeners, url: description, port: port, ownLoops: ownLoops)
  }

  /// The URL of a socket that was opened elsewhere.
  private static func description(of url: ConnectionURL, at listener: SocketListener) -> String {
    if listener.port > 0 { return "\(url.scheme)://\(listener.name)\(url.target)" }
    return "\(url.scheme)+unix:\(listener.name)" + (url.target == "/" ? "" : ":" + url.target)
  }

  /// Has a closure called when there is no descriptor or memory for a connection: see `SocketListener.onExhaustion`.
  package func onExhaustion(_ observer: @escaping @Sendable (IOError) -> Void) {
    for listener in listeners { listener.onExhaustion(observer) }
  }

  /// Serves each listener on its loop until all have ended, as they do when the server stops. One that fails ends the others, and so does
  /// the cancellation of the calling task. The server's own loops end then.
  /// - Throws: What the first that fails throws: `CancellationError`, or an `IOError` of its listening socket.
  package func run(_ serve: @escaping @Sendable (Int) async throws -> Void) async throws {
    defer { for loop in ownLoops { loop.stop() } }
    try await withThrowingTaskGroup(of: Void.self) { services in
      for index in listeners.indices {
        services.addTask(executorPreference: listeners[index].uvLoop) { try await serve(index) }
      }
      // What is thrown from here cancels the others, and they are awaited.
      for try await _ in services {}
    }
  }
}
