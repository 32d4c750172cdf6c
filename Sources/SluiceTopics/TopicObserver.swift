/// Is told what topics do, for metrics. Called on any thread, at once: it must not wait.
public protocol TopicObserver: Sendable {
  /// Messages were stored by this process.
  func didAppend(topic: String, count: Int, byteCount: Int)
  /// An append was not confirmed within its time limit, or refused.
  func didFailToAppend(topic: String, count: Int)
  /// Messages came from the engine into the ring, for so many readers.
  func didReceive(topic: String, count: Int, readers: Int)
  /// A reader has to read what has left the ring, or never was there: from the log, or as its policy says.
  func didFallBehind(topic: String)
  /// A part of the log was read from the engine, for whoever catches up.
  func didReadLog(topic: String, count: Int)
  /// A reader was told of a loss.
  func didLose(topic: String, _ loss: TopicLoss)
  /// The engine's connection was lost, or could not be made, for a reason; it is tried again.
  func didDisconnect(_ reason: any Error)
}

extension TopicObserver {
  public func didAppend(topic: String, count: Int, byteCount: Int) {}
  public func didFailToAppend(topic: String, count: Int) {}
  public func didReceive(topic: String, count: Int, readers: Int) {}
  public func didFallBehind(topic: String) {}
  public func didReadLog(topic: String, count: Int) {}
  public func didLose(topic: String, _ loss: TopicLoss) {}
  public func didDisconnect(_ reason: any Error) {}
}
