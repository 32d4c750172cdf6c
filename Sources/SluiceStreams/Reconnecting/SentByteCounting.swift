/// A stream that tells how much of what was pushed into it has left.
package protocol SentByteCounting: Sendable {
  /// Bytes that the system has taken since the stream began, as they are on the wire: with what stands around the elements. Added to
  /// `queuedByteCount`, it is the place where the next element begins. It stays what it was when the stream fails; nil if a stream below
  /// does not count. On the loop only.
  var sentByteCount: Int? { get }
}
