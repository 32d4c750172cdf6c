import HTTPTypes
import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

@Suite("hixie-75 and hixie-76")
struct HixieTests {
  private func fields(_ pairs: KeyValuePairs<String, String>) throws -> HTTPFields {
    var fields = HTTPFields()
    for (name, value) in pairs { fields.append(HTTPField(name: try #require(HTTPField.Name(name)), value: value)) }
    return fields
  }

  private func request(_ more: KeyValuePairs<String, String>) throws -> HTTPRequest {
    var all = try fields(["Upgrade": "WebSocket", "Connection": "Upgrade", "Origin": "http://example.com"])
    all.append(contentsOf: try fields(more))
    return HTTPRequest(method: .get, scheme: "http", authority: "example.com", path: "/demo", headerFields: all)
  }

  @Test(
    "MD5 (RFC 1321 §A.5)",
    arguments: [
      ("", "d41d8cd98f00b204e9800998ecf8427e"), ("abc", "900150983cd24fb0d6963f7d28e17f72"),
      (
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
        "57edf4a22be3c955ac49da2e2107b67a"
      ),
    ])
  func md5(_ text: String, _ digest: String) {
    let hexadecimal = MD5.digest(Array(text.utf8)).map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }
    #expect(hexadecimal.joined() == digest)
  }

  @Test("the draft's own example (draft 76 §1.2)")
  func example() throws {
    let agreement = try ServerHandshake(protocols: ["sample"]).answer(
      try request([
        "Sec-WebSocket-Key1": "4 @1  46546xW%0l 1 5", "Sec-WebSocket-Key2": "12998 5 Y3 1  .P00",
        "Sec-WebSocket-Protocol": "sample",
      ]), isHTTP11: true, hasBody: false)
    #expect(agreement.version == .hixie76)
    #expect(agreement.challenge?.answer(to: "^n:ds[4U") == "8jKS'y:G*Co,Wxa-")
    #expect(agreement.fields[try #require(.init("Sec-WebSocket-Location"))] == "ws://example.com/demo")
    #expect(agreement.fields[try #require(.init("Sec-WebSocket-Origin"))] == "http://example.com")
    #expect(agreement.fields[.secWebSocketProtocol] == "sample")
  }

  @Test("a key with one space, the fewest that there may be")
  func oneSpace() throws {
    let agreement = try ServerHandshake().answer(
      try request(["Sec-WebSocket-Key1": "a5 0b", "Sec-WebSocket-Key2": "24 x68"]), isHTTP11: true, hasBody: false)
    // MD5 of 50, 2468 and the body.
    #expect(
      agreement.challenge?.answer(to: "^n:ds[4U")
        == Bytes(MD5.digest([0, 0, 0, 50, 0, 0, 9, 164] + Array("^n:ds[4U".utf8))))
  }

  @Test("the handshake of draft 75")
  func handshake75() throws {
    let agreement = try ServerHandshake(protocols: ["sample"]).answer(
      try request(["WebSocket-Protocol": "sample"]), isHTTP11: true, hasBody: false)
    #expect(agreement.version == .hixie75)
    #expect(agreement.challenge == nil)
    #expect(agreement.fields[try #require(.init("WebSocket-Location"))] == "ws://example.com/demo")
    #expect(agreement.fields[try #require(.init("WebSocket-Protocol"))] == "sample")
  }

  @Test(
    "keys that are none are refused (ATTACKS 15)",
    arguments: [
      ("4@146546", "12998 5 Y3 1  .P00"),  // no space
      ("4294967296 ", "12998 5 Y3 1  .P00"),  // 2^32
      ("99999999999999999999999 ", "12998 5 Y3 1  .P00"),
      ("3  ", "12998 5 Y3 1  .P00"),  // not a multiple
    ])
  func wrongKeys(_ key1: String, _ key2: String) throws {
    let request = try request(["Sec-WebSocket-Key1": key1, "Sec-WebSocket-Key2": key2])
    #expect(throws: HandshakeRejection.self) {
      try ServerHandshake().answer(request, isHTTP11: true, hasBody: false)
    }
  }

  @Test(
    "a request of an old version is refused where it is switched off, and the answer names what is spoken (ATTACKS 29)")
  func versions() throws {
    let request = try request([:])
    do {
      _ = try ServerHandshake(versions: [.hybi13, .hybi8]).answer(request, isHTTP11: true, hasBody: false)
      Issue.record("hixie-75 was accepted")
    } catch {
      #expect(error.status == 426)
      #expect(error.fields[.secWebSocketVersion] == "13, 8")
    }
  }

  // MARK: frames

  private enum Found: Equatable {
    case text(String)
    case close
    case error(WebSocketProtocolError)
  }

  private func decode(_ bytes: Bytes, _ version: WebSocketVersion, size: Int) -> [Found] {
    var decoder = HixieDecoder(version: version, maxSkippedBytes: 1000)
    var assembler = MessageAssembler(maxMessageSize: 1000)
    var found: [Found] = []
    var rest = bytes
    do {
      while !rest.isEmpty {
        var input = rest.prefix(size)
        rest = rest.dropFirst(size)
        while let event = try decoder.next(in: &input) {
          switch event {
          case .data(let piece):
            if let message = try assembler.append(piece) { found.append(.text(message.bytes.string)) }
          case .close: found.append(.close)
          case .ping, .pong: Issue.record("a version without pings")
          }
        }
      }
    } catch {
      found.append(.error(error))
    }
    return found
  }

  @Test("frames, cut at every byte or not at all", arguments: [1, 2, 3, .max])
  func frames(size: Int) {
    let hello: Bytes = [0x00, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0xFF, 0x00, 0xFF, 0x00, 0xC3, 0xBC, 0xFF]
    for version in [WebSocketVersion.hixie75, .hixie76] {
      #expect(decode(hello, version, size: size) == [.text("Hello"), .text(""), .text("ü")])
      // What has a length is passed over.
      #expect(decode([0x80, 0x05, 1, 2, 3, 4, 5, 0x00, 0x61, 0xFF], version, size: size) == [.text("a")])
      #expect(
        decode([0x80, 0x81, 0x00] + [UInt8](repeating: 7, count: 128) + [0x00, 0x61, 0xFF], version, size: size) == [
          .text("a")
        ])
      #expect(decode([0x00, 0xC3, 0xFF], version, size: size) == [.error(.truncatedText)])
      #expect(decode([0x00, 0xC0, 0x80, 0xFF], version, size: size) == [.error(.invalidText)])
      #expect(decode([0x01, 0x61, 0xFF], version, size: size) == [.error(.reservedOpcode(1))])
    }
    #expect(decode([0xFF, 0x00, 0x00, 0x61, 0xFF], .hixie76, size: size) == [.close])
    #expect(decode([0xFF, 0x00, 0x00, 0x61, 0xFF], .hixie75, size: size) == [.text("a")])
  }

  @Test("a length without end and a text without end stop at the limit (ATTACKS 15)", arguments: [1, .max])
  func limits(size: Int) {
    #expect(
      decode(Bytes([0x80] + [UInt8](repeating: 0xFF, count: 1 << 20)), .hixie76, size: size).first
        == .error(.messageTooBig(limit: 1000, actual: 16383)))
    #expect(
      decode(Bytes([0x80] + [UInt8](repeating: 0x80, count: 1 << 20)), .hixie76, size: size).first
        == .error(.nonMinimalLength(0, lengthBytes: 10)))
    guard
      case .error(.messageTooBig)? = decode(Bytes([0x00] + [UInt8](repeating: 0x61, count: 5000)), .hixie76, size: size)
        .first
    else {
      Issue.record("a text without end was taken")
      return
    }
  }
}

extension Bytes {
  fileprivate static func + (left: Bytes, right: [UInt8]) -> Bytes { Bytes(Array(left) + right) }
}
