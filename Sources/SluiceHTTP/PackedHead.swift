import SluiceStreams

/// A head in less memory, for who keeps it: phrases that many heads have are one byte each, of those that no head has.
///
/// ```swift
/// let packed = PackedHead(head)
/// packed.head == head
/// ```
package struct PackedHead: Sendable {
  private let packed: [UInt8]

  /// What stands for a phrase: a control character, which is in no head but for those of line ends and the tab.
  static let codes = Array([0x01...0x08, 0x0E...0x1F].joined()) as [UInt8]

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
      if let phrase = Self.phrasesByByte[Int(byte)].first(where: { head[position...].starts(with: Self.phrases[$0]) }) {
        packed.append(Self.codes[phrase])
        position += Self.phrases[phrase].count
      } else {
        packed.append(byte)
        position += 1
      }
    }
    // In memory of its own size.
    self.packed = packed.map { $0 }
  }

  /// The head as it was.
  package var head: Bytes {
    var head = BytesBuilder()
    for byte in packed {
      if let phrase = Self.codes.firstIndex(of: byte) {
        head.append(contentsOf: Self.phrases[phrase])
      } else {
        head.append(byte)
      }
    }
    return head.take()
  }
}
