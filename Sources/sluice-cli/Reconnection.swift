import ArgumentParser
import Sluice
import SluiceClient
import SluiceStreams
import SluiceWebSocket

/// What the command line says of connections that are lost.
struct ReconnectCommandOptions: ParsableArguments {
  @Flag(
    help:
      "Reconnect when a connection is lost or fails, after up to 1, 2, 4 … seconds. Data not yet handed to the operating system is sent over the next connection."
  )
  var reconnect = false

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "The longest delay before reconnecting; an event stream's own 'retry' may be longer.", valueName: "SECONDS"))
  var maxReconnectDelay: Double = 30

  func validate() throws { try checkSeconds("--max-reconnect-delay", maxReconnectDelay, above: 0) }
}

/// Opens endpoints that are connected again when they were lost, and tells of each attempt.
struct Reconnection: Sendable {
  let client: WebSocketClientOptions
  let protocols: [String]
  let framing: MessageFraming
  let maxDelay: Duration
  let greeting: Greeting
  let diagnostics: Diagnostics

  private var options: ReconnectOptions {
    let diagnostics = diagnostics
    var options = ReconnectOptions()
    options.maxDelay = maxDelay
    options.willWait = { delay, error in diagnostics.notice("\(error); reconnecting in \(Self.text(delay))") }
    options.didConnect = { attempt in
      if attempt.number > 0 { diagnostics.notice("connected to \(attempt.url)") }
    }
    return options
  }

  /// - Throws: the final error if there is no first connection.
  func webSocket(_ url: String) async throws -> OpenEndpoint {
    let connections = WebSocket.connections(to: url, protocols: protocols, options: client, reconnect: options)
    let greeted = Readable<WebSocket>(
      onCancel: { connections.cancel($0) },
      {
        guard let socket = try await connections.read() else { return nil }
        // One that is lost meanwhile is found to be when it is used.
        try? await greeting.say(to: socket)
        return socket
      })
    let stream = WebSocket.stream(over: greeted, on: UVLoop.shared)
    try await stream.open()
    return .messages(.reconnecting(stream))
  }

  func bytes(_ origin: Origin, _ connect: ConnectOptions) async throws -> OpenEndpoint {
    let stream = Connect.reconnecting(to: origin, options: connect, reconnect: options, resumingAt: resumePoint) {
      stream in
      try? await greeting.say(to: stream)
    }
    try await stream.open()
    return .bytes(stream)
  }

  /// An event stream comes back by itself; only its first connection is tried again here.
  func events(_ open: @escaping @Sendable () async throws -> EventSourceClient) async throws -> EventSourceClient {
    let attempts = Reconnector<EventSourceClient>(
      options, url: "the event stream", on: UVLoop.shared, connect: { _ in try await open() },
      end: { client in
        client.cancel(nil)
        return .final
      })
    guard let client = try await attempts.connections.read() else { throw CancellationError() }
    return client
  }

  /// Text goes on with a whole line, so that no reader gets the end of one alone.
  private var resumePoint: ResumePoint<Bytes> {
    switch framing {
    case .lines: .behind(UInt8(ascii: "\n"))
    case .nullTerminated: .behind(0)
    case .lengthPrefixed, .contentLength, .separated, .chunks, .none: .byte
    }
  }

  static func text(_ delay: Duration) -> String { "\((delay / .milliseconds(10)).rounded() / 100) s" }
}
