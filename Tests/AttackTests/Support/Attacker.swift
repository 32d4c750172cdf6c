import Sluice
import SluiceStreams
import SluiceTestSupport
import Synchronization
import Testing

/// Counts across tasks.
final class Counter: Sendable {
  private let count = Atomic(0)

  var value: Int { count.load(ordering: .relaxed) }

  func increment() { count.add(1, ordering: .relaxed) }
}

/// One end of a TCP connection that sends the bytes that it is told to.
final class Attacker: @unchecked Sendable {  // used by one task at a time, but for what is sent
  let socket: any PolledDuplexStream<Bytes, Bytes>
  /// What came and was not asked for yet.
  private var received: [UInt8] = []

  init(socket: any PolledDuplexStream<Bytes, Bytes>) { self.socket = socket }

  #if SANITIZED
    private static let timeLimit = Duration.seconds(200)
  #else
    private static let timeLimit = Duration.seconds(20)
  #endif

  /// The request of RFC 6455 §1.2, whose answer is known.
  static let handshake = """
    GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n
    """

  /// The same with more fields.
  static func handshake(adding fields: [String]) -> String {
    handshake.dropLast() + fields.map { $0 + "\r\n" }.joined() + "\r\n"
  }

  func send(_ bytes: [UInt8]) async throws { try await socket.write(Bytes(bytes)) }
  func send(_ text: String) async throws { try await socket.write(Bytes(text)) }

  /// Sends what the peer may have stopped reading: gives up when it has taken nothing for a second.
  /// - Returns: how many times the bytes went out.
  func flood(_ bytes: [UInt8], times: Int) async -> Int {
    let chunk = Bytes(bytes)
    let sent = Counter()
    let writing = Task {
      for _ in 0..<times {
        try await socket.write(chunk)
        sent.increment()
      }
    }
    let watching = Task {
      var last = -1
      while sent.value != last {
        last = sent.value
        try await Task.sleep(for: .seconds(1))
      }
      writing.cancel()
    }
    _ = try? await writing.value
    watching.cancel()
    return sent.value
  }

  /// Reads an HTTP head, with its empty line.
  func receiveHead() async throws -> String {
    let end = Array("\r\n\r\n".utf8)
    var searched = 0
    while true {
      if received.count >= end.count {
        for index in searched...received.count - end.count where received[index..<index + 4].elementsEqual(end) {
          return String(decoding: try await receive(index + 4), as: UTF8.self)
        }
        searched = received.count - 3
      }
      guard let chunk = try await socket.read() else { return "" }
      received += Array(chunk)
    }
  }

  enum End: Equatable {
    /// The peer closed, FIN.
    case closed
    /// The connection was reset, or otherwise lost.
    case lost
  }

  /// Reads until nothing more comes; for at most `timeLimit`, where time is real.
  func receiveAll() async -> (bytes: [UInt8], end: End) {
    let limit =
      socket is SimulatedStream
      ? nil
      : Task { [socket] in
        try await Task.sleep(for: Self.timeLimit)
        socket.abort(CancellationError())
      }
    defer { limit?.cancel() }
    defer { received = [] }
    do {
      while let chunk = try await socket.read() { received += Array(chunk) }
      return (received, .closed)
    } catch {
      return (received, .lost)
    }
  }

  /// Reads a number of bytes; fewer if nothing more comes.
  func receive(_ count: Int) async throws -> [UInt8] {
    while received.count < count, let chunk = try await socket.read() { received += Array(chunk) }
    defer { received.removeFirst(min(count, received.count)) }
    return Array(received[..<min(count, received.count)])
  }
}
