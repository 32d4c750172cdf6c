import SluiceIO
import SluiceStreams
import SluiceTLS
import SluiceTestSupport
import SystemPackage
import Testing

/// How a connection in TLS ends over sockets of the system, where a close with something unread is a reset, and a reset overtakes what is on its way.
@Suite("Ends of TLS over sockets", .timeLimit(.minutes(1)))
struct EndingTests {
  enum Kind: CaseIterable { case tcp, unix }
  enum Unread: CaseIterable {
    /// Whoever ends first has read all.
    case nothing
    /// The other side has sent what is not read, before the end or while it is on its way.
    case some
    /// More than it can be by then, so that the other side is still sending.
    case more
  }

  private static let size = 100_000

  private func sockets(_ kind: Kind) async throws -> (client: SocketStream, server: SocketStream) {
    switch kind {
    case .tcp:
      let listener = try await TCP.listen("127.0.0.1", port: 0)
      defer { listener.cancel() }
      async let accepted = listener.read()
      let client = try await TCP.connect("127.0.0.1", port: listener.port)
      return (client, try #require(try await accepted))
    case .unix:
      let path = "@sluice-tls-end-\(UInt64.random(in: 0 ... .max))"
      let listener = try await UnixSocket.listen(path)
      defer { listener.cancel() }
      async let accepted = listener.read()
      let client = try await UnixSocket.connect(path)
      return (client, try #require(try await accepted))
    }
  }

  @Test(
    "all that was sent arrives, and behind it a good end: whoever ends first, whatever that side has not read",
    arguments: Kind.allCases, [true, false])
  func ends(_ kind: Kind, serverFirst: Bool) async throws {
    let certificates = try await Certificates.load()
    let (serverContext, clientContext) = (try certificates.server(), try certificates.client())
    for unread in Unread.allCases {
      for waits in [true, false] {
        let (near, far) = try await sockets(kind)
        async let accepted = serverContext.accept(over: far)
        let client = try await clientContext.connect(over: near, to: "www.example.com")
        let server = try await accepted
        let (first, second) = serverFirst ? (server, client) : (client, server)
        let noise =
          switch unread {
          case .nothing: 0
          case .some: 5000
          case .more: 1 << 20
          }
        // Nobody promises that what is not read can be written.
        let sending = Task {
          if noise > 0 { try? await second.write(Bytes(repeatElement(1, count: noise))) }
          if !waits { try? await second.close() }
        }
        if unread == .some { await sending.value }
        async let written: Void = {
          try await first.write(Bytes(repeatElement(2, count: Self.size)))
          try await first.close()
          // Half-closed until the other side has ended too, or gone at once.
          if !waits || unread != .nothing { first.cancel() }
        }()
        let received = try await second.collect(limit: 1 << 20)
        try await written
        #expect(received.count == Self.size, "\(kind), server first \(serverFirst), unread \(unread), waits \(waits)")
        await sending.value
        try? await second.close()
        second.cancel()
        first.cancel()
      }
    }
  }
}
