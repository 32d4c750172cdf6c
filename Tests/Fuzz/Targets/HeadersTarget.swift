import HTTPTypes
import SluiceStreams
import SluiceWebSocketProtocol

/// Lists of extensions and subprotocols, and the negotiation of permessage-deflate between any two settings.
enum HeadersTarget: FuzzTarget {
  static let name = "headers"

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let (client, server) = (deflate(&reader), deflate(&reader))
    let text = reader.rest.string
    let serverSide = ExtensionNegotiation([server])
    // What anybody offers is answered, or malformed, and the answer is to an offer.
    if let (_, field) = try? serverSide.answer([text]), let field {
      promise(field.hasPrefix("permessage-deflate") && text.contains("permessage-deflate"), "\(field) for \(text)")
    }
    // What anybody answers is checked.
    _ = try? ExtensionNegotiation([client]).accept([text])
    answer(protocols: text)
    negotiate(client, server)
  }

  /// A client of ours and a server of ours agree: what one answers the other takes, unless the client insists on more.
  private static func negotiate(_ client: PermessageDeflate, _ server: PermessageDeflate) {
    guard let offer = try? ExtensionNegotiation([client]).offer() else { return promise(false, "no offer") }
    guard let (_, field) = try? ExtensionNegotiation([server]).answer([offer]), let field else {
      return promise(false, "\(offer) is declined")
    }
    do { _ = try ExtensionNegotiation([client]).accept([field]) } catch {
      promise(false, "\(field) to \(offer): \(error)")
    }
  }

  private static func answer(protocols: String) {
    let request = HTTPRequest(
      method: .get, scheme: "http", authority: "x", path: "/",
      headerFields: [
        .upgrade: "websocket", .connection: "Upgrade", .secWebSocketKey: "dGhlIHNhbXBsZSBub25jZQ==",
        .secWebSocketVersion: "13", .secWebSocketProtocol: protocols,
      ])
    do {
      let agreement = try ServerHandshake(protocols: ["chat", "v2"]).answer(request, isHTTP11: true, hasBody: false)
      if let chosen = agreement.subprotocol { promise(protocols.contains(chosen), "\(chosen) was not offered") }
    } catch {
      promise(error.status == 400, "status \(error.status)")
    }
  }

  private static func deflate(_ reader: inout InputReader) -> PermessageDeflate {
    let (first, second) = (reader.byte(), reader.byte())
    return PermessageDeflate(
      outgoing: .init(contextTakeover: first & 1 == 0, bits: 8 + Int(first >> 1 & 7)),
      incoming: .init(contextTakeover: second & 1 == 0, bits: 8 + Int(second >> 1 & 7)))
  }

  // MARK: inputs

  private static let parts: [StaticString] = [
    "permessage-deflate", "; ", ", ", "=", "\"", "\\", " ", "server_max_window_bits", "client_max_window_bits",
    "server_no_context_takeover", "client_no_context_takeover", "8", "15", "10", "chat", "v2", "a", ",", ";", "\t",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    for _ in 0..<4 { builder.append(generator.byte()) }
    for _ in 0..<generator.below(16) {
      if generator.below(30) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
