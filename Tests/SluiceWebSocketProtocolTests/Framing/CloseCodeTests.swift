import Testing

@testable import SluiceWebSocketProtocol

@Suite("Close codes (RFC 6455 §7.4)")
struct CloseCodeTests {
  @Test("the wire takes the registered codes, and those of libraries and applications")
  func wire() {
    let allowed = (0...UInt16.max).filter { CloseCode(rawValue: $0).isAllowedOnWire }
    #expect(allowed == Array(1000...1003) + Array(1007...1014) + Array(3000...4999))
  }

  @Test("a code is described by its number and its registered name")
  func description() {
    #expect("\(CloseCode.normal)" == "1000 (normal)")
    #expect("\(CloseCode(rawValue: 4321))" == "4321")
    for code in UInt16(1000)...1015 where code != 1004 { #expect("\(CloseCode(rawValue: code))".contains("(")) }
  }

  @Test("every error has the code that the peer is told, and says what the peer did")
  func errors() {
    let table: [(WebSocketProtocolError, CloseCode, String)] = [
      (.reservedOpcode(0xB), .protocolError, "0xB"),
      (.reservedBits([.rsv1, .rsv3], .text), .protocolError, "RSV1+RSV3 on a text frame"),
      (.fragmentedControlFrame(.ping), .protocolError, "ping"),
      (.controlFrameTooLong(.close), .protocolError, "125"),
      (.unmaskedFrame, .protocolError, "an unmasked frame"),
      (.maskedFrame, .protocolError, "a masked frame"),
      (.nonMinimalLength(5, lengthBytes: 2), .protocolError, "length 5 in 2 bytes"),
      (.lengthOutOfRange(.max), .protocolError, "18446744073709551615"),
      (.unexpectedContinuation, .protocolError, "without a message to continue"),
      (.interruptedMessage(by: .binary), .protocolError, "binary"),
      (.truncatedCloseCode, .protocolError, "1 byte"),
      (.invalidCloseCode(CloseCode(rawValue: 1005)), .protocolError, "1005"),
      (.invalidCloseReason, .invalidPayload, "reason"),
      (.invalidText, .invalidPayload, "UTF-8"),
      (.truncatedText, .invalidPayload, "in the middle of"),
      (.messageTooBig(limit: 10, actual: 11), .messageTooBig, "at least 11 bytes (limit 10)"),
      (.tooManyFragments(limit: 7), .policyViolation, "too many frames (limit 7)"),
    ]
    for (error, code, words) in table {
      #expect(error.closeCode == code)
      #expect(error.description.contains(words))
    }
  }
}
