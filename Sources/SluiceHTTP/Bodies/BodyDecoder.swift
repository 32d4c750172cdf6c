import SluiceStreams

/// Takes a body out of the bytes of a connection. It ends where the body does.
package protocol BodyDecoder: Transform where Input == Bytes, Output == Bytes {
  /// What came behind the body, when that has ended.
  var rest: Bytes { get }
}
