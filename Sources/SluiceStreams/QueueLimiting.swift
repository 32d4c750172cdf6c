/// A sink whose queue can be kept shorter than its options say, by whoever can send again what it has no room for.
package protocol QueueLimiting: AnyObject {
  /// Moves the high watermark of what waits for the system. On the loop only.
  /// - Parameter count: Bytes; 1: there is room when everything has left.
  /// - Returns: what it was; nil where what is beneath can't be told.
  func limitQueue(to count: Int) -> Int?
}
