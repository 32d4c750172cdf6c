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
    switch (state, byte) {
    case (.beforeName, _),
      (.name, _) where ASCII.isTokenCharacter(byte):
      .name
    case (.beforeValue, _),
      (.token, _) where ASCII.isTokenCharacter(byte):
      .token
    case (.beforeValue, UInt8(ascii: "\"")): .quoted
    case (.name, UInt8(ascii: "=")), (.behindName, UInt8(ascii: "=")): .beforeValue
    case (.beforeSemicolon, UInt8(ascii: ";")), (.name, UInt8(ascii: ";")), (.behindName, UInt8(ascii: ";")),
      (.token, UInt8(ascii: ";")), (.behindQuoted, UInt8(ascii: ";")):
      .beforeName
    case (.name, _) where ASCII.isBlank(byte): .behindName
    case (.token, _),
      (.behindQuoted, _) where ASCII.isBlank(byte):
      .beforeSemicolon
    default: nil
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
