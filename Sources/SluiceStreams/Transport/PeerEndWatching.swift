/// A stream that may know of its peer's end before anybody has read that far.
///
/// Who does not read, because there is no room for more, hears of an end by this alone: that what comes is unread must not hide that nobody is there.
package protocol PeerEndWatching {
  /// Whether the peer has ended its half or is lost, behind what may be unread. The reader is woken when that becomes known. On the loop only.
  var hasPeerEnded: Bool { get }
}

/// A failure of reading that may mean no more than that the peer has ended its half, if without the word for it: what is sent to it may still arrive.
package protocol ReadingEndError: Error {
  var endsReadingOnly: Bool { get }
}
