import SluiceTopics
import Testing

@Suite("Positions")
struct PositionTests {
  @Test(
    "a position is its text",
    arguments: ["abc.0", "abc.1", "e-1_2.3.18446744073709551615", "x.123456789"])
  func text(_ text: String) throws {
    #expect(try #require(Position(text)).description == text)
  }

  @Test(
    "what no topic gives is no position",
    arguments: [
      "", ".", "abc", "abc.", ".1", "abc.01", "abc.+1", "abc.-1", "abc. 1", "abc.1 ", "a b.1", "a\n.1", "é.1", "abc.1x",
      "abc.18446744073709551616", "abc.99999999999999999999999", "a.\u{661}", String(repeating: "a", count: 63) + ".1",
    ])
  func noPosition(_ text: String) { #expect(Position(text) == nil) }

  @Test(
    "names of topics",
    arguments: [
      ("rooms.lobby", true), ("a", true), ("A-b_c:d.9", true), (String(repeating: "n", count: 200), true), ("", false),
      ("a b", false), ("a/b", false), ("{a}", false), ("a\r\nb", false), ("é", false),
      (String(repeating: "n", count: 201), false),
    ])
  func names(name: String, isName: Bool) throws {
    let topics = Topics.memory()
    if isName {
      #expect(try topics.topic(name).name == name)
    } else {
      #expect(throws: TopicError.invalidName(name)) { try topics.topic(name) }
    }
  }
}

@Suite("What is known of a log")
struct LogStateTests {
  /// 1...5 of one epoch, of which 1 and 2 are trimmed, and 100...102 of the next.
  private let log = LogState(
    epochs: [LogEpoch(name: "a", first: 1, last: 5), LogEpoch(name: "b", first: 100, last: 102)], earliest: 3)

  @Test("what follows a position, over the border of epochs too")
  func successors() throws {
    let log = try #require(log)
    #expect(try log.successor(of: Position(epoch: "a", offset: 2)) == 3)
    #expect(try log.successor(of: Position(epoch: "a", offset: 4)) == 5)
    #expect(try log.successor(of: Position(epoch: "a", offset: 5)) == 100)
    #expect(try log.successor(of: Position(epoch: "b", offset: 99)) == 100)
    #expect(try log.successor(of: Position(epoch: "b", offset: 102)) == nil)
  }

  @Test(
    "losses, and from where on the log is whole",
    arguments: [
      ("a.1", "a.2"), ("a.0", "a.2"), ("a.6", "a.5"), ("a.99", "a.5"), ("b.50", "a.2"), ("b.103", "b.102"),
      ("c.4", "a.2"),
    ])
  func losses(asked: String, earliest: String) throws {
    let log = try #require(log)
    let (asked, earliest) = (try #require(Position(asked)), try #require(Position(earliest)))
    #expect(throws: TopicError.positionLost(asked: asked, earliest: earliest)) { try log.successor(of: asked) }
  }

  @Test(
    "before the last few",
    arguments: [
      (0, "b.102"), (-1, "b.102"), (1, "b.101"), (3, "b.99"), (4, "a.4"), (6, "a.2"), (7, "a.2"), (.max, "a.2"),
    ])
  func last(count: Int, position: String) throws {
    #expect(try #require(log).position(beforeLast: count).description == position)
  }

  @Test("states that no engine has")
  func invalid() {
    #expect(LogState(epochs: [], earliest: nil) == nil)
    #expect(LogState(epochs: [LogEpoch(name: "a", first: 0, last: 3)], earliest: 1) == nil)
    #expect(
      LogState(
        epochs: [LogEpoch(name: "a", first: 1, last: 5), LogEpoch(name: "b", first: 5, last: 6)], earliest: 1) == nil)
    #expect(LogState(epochs: [LogEpoch(name: "a", first: 1, last: 5)], earliest: 0) == nil)
  }

  @Test("numbers beyond 2^53 are no engine's: nothing overflows")
  func greatestNumbers() {
    let greatest: UInt64 = 1 << 53
    func log(_ first: UInt64, _ last: UInt64, earliest: UInt64?) -> LogState? {
      LogState(epochs: [LogEpoch(name: "a", first: first, last: last)], earliest: earliest)
    }
    #expect(log(1, greatest, earliest: greatest)?.end.offset == greatest)
    #expect(log(1, greatest + 1, earliest: 1) == nil)
    #expect(log(1, .max, earliest: 1) == nil)
    #expect(log(greatest + 1, greatest, earliest: nil) == nil)
    #expect(log(1, 5, earliest: .max) == nil)
  }
}
