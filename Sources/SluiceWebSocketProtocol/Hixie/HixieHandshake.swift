import HTTPTypes
import SluiceStreams

extension WebSocketVersion {
  /// The version of a request that names none: browsers of that time sent their page's origin always.
  static func hixie(_ fields: HTTPFields) -> WebSocketVersion? {
    guard fields[values: .origin].count == 1 else { return nil }
    return HixieField.key1.values(in: fields).isEmpty && HixieField.key2.values(in: fields).isEmpty
      ? .hixie75 : .hixie76
  }
}

extension ServerHandshake {
  func answerHixie(
    _ request: HTTPRequest, _ version: WebSocketVersion, isSecure: Bool
  ) throws(HandshakeRejection) -> Agreement {
    var agreement = Agreement(version: version, fields: [.upgrade: "WebSocket", .connection: "Upgrade"])
    if version == .hixie76 { agreement.challenge = try HixieChallenge(request.headerFields) }
    let prefix = version == .hixie76 ? "Sec-" : ""
    agreement.subprotocol = try chooseSubprotocol(request, named: prefix + "WebSocket-Protocol")
    let location = (isSecure ? "wss" : "ws") + "://" + (request.authority ?? "") + (request.path ?? "/")
    let answers: [(String, String?)] = [
      ("Origin", request.headerFields[values: .origin].first), ("Location", location),
      ("Protocol", agreement.subprotocol),
    ]
    for (name, value) in answers {
      guard let value, let name = HTTPField.Name(prefix + "WebSocket-" + name) else { continue }
      agreement.fields.append(HTTPField(name: name, value: value))
    }
    return agreement
  }
}

/// Fields that only the first versions have.
private enum HixieField: String {
  case key1 = "sec-websocket-key1"
  case key2 = "sec-websocket-key2"

  func values(in fields: HTTPFields) -> [String] { fields.values(named: rawValue) }
}

/// What a client of hixie-76 asks, so that only a WebSocket server can answer.
package struct HixieChallenge: Sendable, Hashable {
  /// Bytes that follow the request's head.
  package static let bodyLength = 8
  private let numbers: [UInt32]

  init(_ fields: HTTPFields) throws(HandshakeRejection) {
    var numbers: [UInt32] = []
    for field in [HixieField.key1, .key2] {
      let keys = field.values(in: fields)
      guard keys.count == 1, let number = Self.number(keys[0]) else {
        throw HandshakeRejection(
          status: 400,
          reason:
            "invalid Sec-WebSocket-Key1 or -Key2 (expected one of each, with a number divisible by its count of spaces)"
        )
      }
      numbers.append(number)
    }
    self.numbers = numbers
  }

  /// The number that a key's digits make, divided by the number of its spaces (draft 76 §5.2, 4-7).
  private static func number(_ key: String) -> UInt32? {
    var digits: UInt32 = 0
    var spaces: UInt32 = 0
    for byte in key.utf8 {
      switch byte {
      case 0x30...0x39:
        let (shifted, overflows) = digits.multipliedReportingOverflow(by: 10)
        let (sum, overflowsToo) = shifted.addingReportingOverflow(UInt32(byte - 0x30))
        if overflows || overflowsToo { return nil }
        digits = sum
      case 0x20: spaces &+= 1
      default: break
      }
    }
    guard spaces > 0, digits % spaces == 0 else { return nil }
    return digits / spaces
  }

  /// - Parameter body: The client's eight bytes.
  /// - Returns: the sixteen bytes that follow the response's head.
  package func answer(to body: Bytes) -> Bytes {
    var question = BytesBuilder(capacity: 16)
    for number in numbers { question.append(bigEndian: number) }
    question.append(body)
    return Bytes(MD5.digest(question.take()))
  }
}
