import HTTPTypes
import SluiceStreams

/// A user and a password for Basic authentication (RFC 7617).
///
/// ```swift
/// let credentials = BasicCredentials(user: "ann", password: secret)
/// options.onRequest = { request in
///   guard credentials?.matches(request) == true else { throw RequestRejection.unauthorized() }
///   return [:]
/// }
/// ```
public struct BasicCredentials: Sendable {
  public let user: String
  private let encoded: String

  /// - Parameter user: Without a colon, which ends it on the wire.
  /// - Returns: nil if there is one.
  public init?(user: String, password: String) {
    if user.utf8.contains(UInt8(ascii: ":")) { return nil }
    self.user = user
    encoded = Base64.encode("\(user):\(password)".utf8)
  }

  /// From "USER:PASSWORD".
  /// - Returns: nil if there is no colon.
  public init?(_ text: String) {
    guard let (user, _) = text.utf8.divided(at: UInt8(ascii: ":")) else { return nil }
    self.user = user.text
    encoded = Base64.encode(text.utf8)
  }

  /// Those of a URL.
  /// - Throws: `URLError` if the user's name holds a colon, which ends it on the wire.
  package init(_ userInfo: ConnectionURL.UserInfo) throws(URLError) {
    guard let credentials = BasicCredentials(user: userInfo.user, password: userInfo.password) else {
      throw URLError("the user name contains a colon ('%3A'), which Basic authentication does not allow")
    }
    self = credentials
  }

  /// The value of an Authorization field.
  public var field: String { "Basic " + encoded }

  /// Whether a request has them. How long it takes does not depend on how much of them is right.
  public func matches(_ request: HTTPRequest) -> Bool {
    let sent = request.headerFields[values: .authorization]
    guard sent.count == 1 else { return false }
    guard let (scheme, rest) = sent[0].wire.divided(at: 0x20), scheme.equalsIgnoringCase("basic") else { return false }
    return isEqual(rest.drop { $0 == 0x20 }, encoded.utf8)
  }

  /// Looks at every byte of what was sent, wherever the first difference is.
  private func isEqual(_ sent: some Collection<UInt8>, _ own: some Collection<UInt8>) -> Bool {
    let own = Array(own)
    var difference = sent.count ^ own.count
    for (index, byte) in sent.enumerated() { difference |= Int(byte ^ own[index % own.count]) }
    return difference == 0
  }
}
