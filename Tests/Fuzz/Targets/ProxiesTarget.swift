import SluiceClient
import SluiceHTTP
import SluiceIO
import SluiceStreams

/// What a proxy answers, SOCKS5 and HTTP CONNECT, and what a load balancer says in a PROXY header: the outcome does not depend on how the bytes are cut,
/// and what comes behind it is nobody else's.
enum ProxiesTarget: FuzzTarget {
  static let name = "proxies"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let settings = reader.byte()
    let whole = reader.rest.dropFirst()
    let cuts = [reader.pieces(), whole.indices.map { whole[$0...$0] }]
    let read: ([Bytes]) -> Outcome =
      switch settings % 4 {
      case 0: header
      case 1: tunnel
      case 2: { socks($0, credentials: false) }
      default: { socks($0, credentials: true) }
      }
    let expected = read([whole])
    for pieces in cuts {
      let cut = read(pieces)
      promise(cut == expected, "in \(pieces.count) pieces \(cut), whole \(expected)")
    }
    guard case .open(let what, let rest) = expected else { return }
    promise(whole.suffix(rest.count).elementsEqual(rest), "\(what): what is left is not what came")
    promise(rest.count < whole.count, "\(what) of nothing")
  }

  private enum Outcome: Equatable {
    case wantsMore
    /// What was said, and what came behind it.
    case open(String, Bytes)
    case refused(String)
    case failed
  }

  private static func header(_ pieces: [Bytes]) -> Outcome {
    var received: [UInt8] = []
    do throws(ProxyProtocolError) {
      for (index, piece) in pieces.enumerated() {
        received += piece
        guard let header = try ProxyProtocol.parse(received) else { continue }
        promise(header.length <= received.count, "a header of \(header.length) bytes of \(received.count)")
        let rest = Bytes(received[header.length...])
        return .open(
          "\(header.source as Any)", pieces[(index + 1)...].reduce(rest) { $0.followed(by: $1) }.compacted())
      }
    } catch { return .failed }
    // A connection that says so much and no header is none.
    promise(received.count < 16 + 4096 + 1, "\(received.count) bytes, and no end")
    return .wantsMore
  }

  private static func tunnel(_ pieces: [Bytes]) -> Outcome {
    guard
      var tunnel = try? HTTPTunnel(
        to: Origin(host: "example.com", port: 443, isSecure: true), credentials: nil, headers: [:],
        limits: HeadLimits(maxHeadBytes: 500, maxFieldCount: 5))
    else { fatalError("a right request is refused") }
    do throws(HTTPHeadError) {
      for (index, piece) in pieces.enumerated() {
        let behind = pieces[(index + 1)...]
        switch try tunnel.consume(piece) {
        case .wantsMore: continue
        case .connected(let rest):
          return .open("CONNECT", behind.reduce(rest) { $0.followed(by: $1) }.compacted())
        case .refused(let response, _):
          promise(!(200..<300).contains(response.status.code), "\(response.status) is no refusal")
          return .refused("\(response.status.code)")
        }
      }
    } catch { return .failed }
    return .wantsMore
  }

  private static func socks(_ pieces: [Bytes], credentials: Bool) -> Outcome {
    let userInfo = credentials ? (try? ConnectionURL("ws://user:secret@example.com/"))?.userInfo : nil
    guard var socks = try? SOCKS5(Origin(host: "example.com", port: 443, isSecure: true), credentials: userInfo) else {
      fatalError("a right origin is refused")
    }
    var sent: [Bytes] = [socks.greeting]
    do throws(SOCKSError) {
      for (index, piece) in pieces.enumerated() {
        var next = piece
        // What came too early is looked at when something more comes, or at the end of the pieces.
        while true {
          let step = try socks.consume(next)
          next = Bytes()
          if case .send(let bytes) = step {
            sent.append(bytes)
            continue
          }
          guard case .connected(let rest) = step else { break }
          promise(sent.count == (sent.contains { $0.first == 1 } ? 3 : 2), "\(sent.count) were sent: \(sent)")
          return .open("SOCKS", pieces[(index + 1)...].reduce(rest) { $0.followed(by: $1) }.compacted())
        }
      }
    } catch { return .failed }
    return .wantsMore
  }

  // MARK: inputs

  private static let headers: [StaticString] = [
    "PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "1.2.3.4 ", "::1 ", "80 ", "65536", "443", "\r\n", "\n", " ", "0",
    "\r\n\r\n\0\r\nQUIT\n", "!\u{11}\0",
    "\u{C}", "\0\u{C}",
  ]
  private static let answers: [StaticString] = [
    "HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.0 407 no\r\n", "\r\n", "A: b\r\n",
    "Content-Length: 5\r\n", "HTTP/1.1 ", "x", " ",
    "Transfer-Encoding: chunked\r\n",
  ]
  private static let replies: [StaticString] = [
    "\u{5}\0", "\u{5}\u{2}", "\u{1}\0", "\u{5}\0\0\u{1}", "\u{5}\0\0\u{3}", "\u{5}\0\0\u{4}", "\u{2}ab", "1234",
    "\u{1}\u{BB}", "0123456789abcdef", "\u{5}",
    "\0",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    let settings = generator.byte()
    builder.append(settings)
    builder.append(generator.byte())
    let parts = settings % 4 == 0 ? headers : settings % 4 == 1 ? answers : replies
    for _ in 0..<generator.below(12) {
      if generator.below(12) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
