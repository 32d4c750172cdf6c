import HTTPTypes
import SluiceHTTP
import SluiceStreams
import SluiceWebSocketProtocol

/// Both sides of the opening handshake: heads of any bytes, cut anywhere.
enum HandshakesTarget: FuzzTarget {
  static let name = "handshakes"
  private static let limits = HeadLimits(maxHeadBytes: 2000, maxFieldCount: 20)
  private static let server = ServerHandshake(
    protocols: ["chat", "v2"], extensions: [PermessageDeflate()], origins: .only("https://*.example.com"))

  static func run(_ input: Bytes) {
    var reader = InputReader(input)
    let isRequest = reader.byte() & 1 == 0
    let whole = reader.rest.dropFirst()
    let pieces = reader.pieces()
    let kind: HeadReader.Kind = isRequest ? .request : .response
    let expected = head([whole], kind)
    promise(head(pieces, kind) == expected, "a head depends on how it is cut")
    guard case .success(let head?) = expected else { return }
    if isRequest { answer(head) } else { check(head) }
  }

  private static func head(_ pieces: [Bytes], _ kind: HeadReader.Kind) -> Result<Bytes?, HTTPHeadError> {
    var reader = HeadReader(kind, limits: limits)
    do {
      for piece in pieces {
        if let (head, _) = try reader.consume(piece) { return .success(head.compacted()) }
      }
      return .success(nil)
    } catch {
      return .failure(error)
    }
  }

  private static func answer(_ bytes: Bytes) {
    do {
      let head = try RequestHead(bytes, limits: limits)
      let agreement = try server.answer(head.request, isHTTP11: head.isHTTP11, hasBody: head.hasBody)
      var writer = HeadWriter("HTTP/1.1 101 Switching Protocols")
      // What comes from the request and goes into the response must be fit to be written.
      try writer.append(agreement.fields)
      let response = try ResponseHead(writer.finish(), limits: HeadLimits(maxHeadBytes: 10_000)).response
      promise(response.headerFields.count == agreement.fields.count, "a field became two")
      _ = agreement.challenge?.answer(to: "12345678")
    } catch let error as HTTPHeadError {
      promise([400, 414, 431, 505].contains(error.status), "status \(error.status)")
    } catch let error as HandshakeRejection {
      promise([400, 403, 405, 426, 505].contains(error.status), "status \(error.status)")
    } catch {
      promise(false, "\(error)")
    }
  }

  private static func check(_ bytes: Bytes) {
    do {
      let response = try ResponseHead(bytes, limits: limits).response
      let handshake = try ClientHandshake(
        protocols: ["chat"], extensions: [PermessageDeflate()],
        key: HandshakeKey("dGhlIHNhbXBsZSBub25jZQ==") ?? HandshakeKey())
      let agreement = try handshake.check(response)
      promise(agreement.subprotocol == nil || agreement.subprotocol == "chat", "a subprotocol that was not offered")
      promise(response.headerFields[.secWebSocketAccept] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "a wrong answer to the key")
    } catch {
      promise(error is HTTPHeadError || error is ClientHandshakeError, "\(error)")
    }
  }

  // MARK: inputs

  private static let lines: [StaticString] = [
    "GET / HTTP/1.1", "HTTP/1.1 101 Switching Protocols", "Host: example.com", "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Protocol: chat, v2",
    "Sec-WebSocket-Protocol: chat",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Origin: https://a.example.com", "Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5",
    "Sec-WebSocket-Key2: 12998 5 Y3 1  .P00",
    "Content-Length: 0", "Transfer-Encoding: chunked", "",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 1024)
    let isRequest = generator.below(2) == 0
    builder.append(isRequest ? 0 : 1)
    builder.append(generator.byte())
    builder.append("\(lines[isRequest ? 0 : 1])\r\n")
    for line in 2..<lines.count where generator.below(3) != 0 { builder.append("\(lines[line])\r\n") }
    builder.append("\r\n")
    var bytes = Array(builder.take())
    for _ in 0..<generator.below(3) { bytes[2 + generator.below(bytes.count - 2)] = generator.byte() }
    return Bytes(bytes)
  }
}
