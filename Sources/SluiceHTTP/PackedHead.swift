import SluiceStreams

/// A head in less memory, for who keeps it: phrases that many heads have are one byte each, of those that no head has, and a handshake's
/// key is in binary.
///
/// ```swift
/// let packed = PackedHead(head)
/// packed.head == head
/// ```
package struct PackedHead: @unchecked Sendable {  // its memory is never changed
  private let packed: Memory

  /// What stands for a phrase: a control character, which is in no head but for those of line ends and the tab.
  static let codes = Array([0x01...0x08, 0x0E...0x1F].joined()) as [UInt8]
  /// What stands for `keyPhrase` and a key, of which the 16 bytes follow.
  static let keyCode: UInt8 = 0x7F
  private static let end: UInt8 = 0

  /// None begins as another does.
  static let phrases: [[UInt8]] = [
    "GET / HTTP/1.1\r\nHost: ", " HTTP/1.1\r\nHost: ", "HTTP/1.1 101 Switching Protocols",
    "\r\nUpgrade: websocket", "\r\nConnection: Upgrade", "\r\nConnection: keep-alive, Upgrade",
    "\r\nSec-WebSocket-Version: 13", "\r\nSec-WebSocket-Key: ", "\r\nSec-WebSocket-Accept: ",
    "\r\nSec-WebSocket-Protocol: ", "\r\nSec-WebSocket-Extensions: permessage-deflate", "; client_max_window_bits",
    "\r\nOrigin: http", "\r\nCookie: ", "\r\nAuthorization: ", "\r\nUser-Agent: ", "Mozilla/5.0 (",
    " AppleWebKit/537.36 (KHTML, like Gecko) Chrome/", " Safari/537.36", "\r\nAccept-Encoding: gzip, deflate, br",
    "\r\nAccept-Language: ", "\r\nPragma: no-cache", "\r\nCache-Control: no-cache", "\r\nX-Forwarded-For: ",
    "\r\nX-Forwarded-Proto: http", "\r\n\r\n",
  ].map { Array($0.utf8) }

  private static let keyPhrase = phrases.firstIndex(of: Array("\r\nSec-WebSocket-Key: ".utf8))

  /// The numbers of the phrases that begin with a byte, and have a code.
  private static let phrasesByByte = (UInt8.min...UInt8.max).map { byte in
    phrases.indices.prefix(codes.count).filter { phrases[$0][0] == byte }
  }

  /// - Parameter head: A whole head that was parsed.
  package init(_ head: Bytes) {
    var packed: [UInt8] = []
    var position = head.startIndex
    while position < head.endIndex {
      let byte = head[position]
      guard
        let phrase = Self.phrasesByByte[Int(byte)].first(where: { head[position...].starts(with: Self.phrases[$0]) })
      else {
        packed.append(byte)
        position += 1
        continue
      }
      position += Self.phrases[phrase].count
      if phrase == Self.keyPhrase, let key = Self.key(at: head[position...]) {
        packed.append(Self.keyCode)
        packed += key
        position += Self.keyTextLength
      } else {
        packed.append(Self.codes[phrase])
      }
    }
    packed.append(Self.end)
    self.packed = Memory.holding(packed)
  }

  /// The head as it was.
  package var head: Bytes {
    var head = BytesBuilder()
    var position = 0
    while packed[position] != Self.end {
      let byte = packed[position]
      position += 1
      if byte == Self.keyCode {
        head.append(contentsOf: Self.phrases[Self.keyPhrase ?? 0])
        head.append(contentsOf: Base64.encode((0..<Self.keyLength).map { packed[position + $0] }).utf8)
        position += Self.keyLength
      } else if let phrase = Self.codes.firstIndex(of: byte) {
        head.append(contentsOf: Self.phrases[phrase])
      } else {
        head.append(byte)
      }
    }
    return head.take()
  }

  private static let keyLength = 16
  private static let keyTextLength = 24

  /// The key that a text begins with, if that is what its bytes are written as.
  private static func key(at text: Bytes) -> [UInt8]? {
    let text = text.prefix(keyTextLength)
    guard let key = Base64.decode(text), key.count == keyLength, Base64.encode(key).utf8.elementsEqual(text) else {
      return nil
    }
    return key
  }

  /// Bytes and nothing else, not even their number: there are as many of these as connections.
  private final class Memory: ManagedBuffer<Void, UInt8> {
    static func holding(_ bytes: [UInt8]) -> Memory {
      let memory = Memory.create(minimumCapacity: bytes.count) { _ in }
      unsafe memory.withUnsafeMutablePointerToElements { elements in
        for (index, byte) in bytes.enumerated() { unsafe (elements + index).initialize(to: byte) }
      }
      return unsafe unsafeDowncast(memory, to: Memory.self)
    }

    subscript(position: Int) -> UInt8 { unsafe withUnsafeMutablePointerToElements { unsafe $0[position] } }
  }
}
