import SluiceStreams

/// What follows a chunk's size on its line, byte by byte (RFC 9112 §7.1.1): `*( BWS ";" BWS name [ BWS "=" BWS value ] )`. It says nothing here, but
/// where it ends must be the same to every reader.
struct ChunkExtension {
  private enum State {
    /// Behind blanks that only a semicolon may follow: not the end.
    case beforeSemicolon
    case beforeName
    case name
    case behindName
    case beforeValue
    case token
    case quoted
    case escaped
    case behindQuoted
  }
  private var state: State

  /// - Parameter first: What came behind the size.
  /// - Returns: nil if no extension begins so.
  init?(_ first: UInt8) {
    if first == UInt8(ascii: ";") {
      state = .beforeName
    } else if ASCII.isBlank(first) {
      state = .beforeSemicolon
    } else {
      return nil
    }
  }

  /// Whether the line may end here.
  var mayEnd: Bool {
    switch state {
    case .name, .token, .behindQuoted: true
    default: false
    }
  }

  /// - Returns: false if the byte can't stand here.
  mutating func take(_ byte: UInt8) -> Bool {
    switch state {
    case .quoted: return takeQuoted(byte)
    case .escaped:
      state = .quoted
      return HTTPSyntax.isValueCharacter(byte)
    case .beforeSemicolon, .beforeName, .behindName, .beforeValue:
      if ASCII.isBlank(byte) { return true }
    case .name, .token, .behindQuoted: break
    }
    guard let next = next(byte) else { return false }
    state = next
    return true
  }

  private func next(_ byte: UInt8) -> State? {
    let isToken = ASCII.isTokenCharacter(byte)
    let isBlank = ASCII.isBlank(byte)
    let isSemicolon = byte == UInt8(ascii: ";")
    let isEqualSign = byte == UInt8(ascii: "=")
    switch state {
    case .beforeSemicolon: return isSemicolon ? .beforeName : nil
    case .beforeName: return isToken ? .name : nil
    case .name where isToken: return .name
    case .name, .behindName:
      return isEqualSign ? .beforeValue : isSemicolon ? .beforeName : isBlank ? .behindName : nil
    case .beforeValue: return isToken ? .token : byte == UInt8(ascii: "\"") ? .quoted : nil
    case .token where isToken: return .token
    case .token, .behindQuoted: return isSemicolon ? .beforeName : isBlank ? .beforeSemicolon : nil
    case .quoted, .escaped: return nil
    }
  }

  private mutating func takeQuoted(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "\""): state = .behindQuoted
    case UInt8(ascii: "\\"): state = .escaped
    default: return HTTPSyntax.isValueCharacter(byte)
    }
    return true
  }
}
