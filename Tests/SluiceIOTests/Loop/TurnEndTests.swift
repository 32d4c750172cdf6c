import SluiceStreams
import Testing

@testable import SluiceIO

@Suite("The end of a turn", .timeLimit(.minutes(1)))
struct TurnEndTests {
  private final class Noted: EndOfTurn {
    let number: Int
    init(_ number: Int) { self.number = number }
    func endOfTurn() {}
  }

  @Test(
    "who asked is told once, in order, however many they are and whoever asks meanwhile",
    arguments: [1, 63, 64, 65, 1000])
  func order(count: Int) {
    var turn = TurnEnd()
    for round in 0..<3 {
      for number in 0..<count { turn.append(Noted(number)) }
      var told: [Int] = []
      while let object = turn.popFirst() {
        let number = (object as? Noted)?.number ?? -1
        told.append(number)
        if number < count && round > 0 { turn.append(Noted(count + number)) }
      }
      #expect(told == Array(0..<(round > 0 ? 2 * count : count)))
      let isEmpty = turn.isEmpty
      #expect(isEmpty)
    }
  }

  @Test("who asked last can take it back, and nobody else", arguments: [1, 2, 64, 65])
  func takenBack(count: Int) {
    var turn = TurnEnd()
    let all = (0..<count).map { Noted($0) }
    for object in all { turn.append(object) }
    let takesBackFirst = turn.removeLast(all[0])
    #expect(takesBackFirst == (count == 1))
    let takesBackLast = turn.removeLast(all[count - 1])
    #expect(takesBackLast == (count > 1))
    turn.append(Noted(count))
    var told: [Int] = []
    while let object = turn.popFirst() { told.append((object as? Noted)?.number ?? -1) }
    #expect(told == Array(0..<count - 1) + [count])
    let isGone = turn.removeLast(all[0])
    #expect(!isGone)
  }

  @Test("what is told, or never is, is let go of")
  func lifetimes() {
    weak var told: Noted?
    weak var left: Noted?
    do {
      var turn = TurnEnd()
      let (first, second) = (Noted(1), Noted(2))
      (told, left) = (first, second)
      turn.append(first)
      turn.append(second)
      _ = turn.popFirst()
    }
    #expect(told == nil && left == nil)
  }

  @Test(
    "what sockets have been sent in one turn of the loop leaves, in order, whatever their number",
    arguments: [1, 16, 17, 100])
  func sharedTurns(count: Int) async throws {
    let listener = try await TCP.listen("127.0.0.1", port: 0)
    let echo = Task {
      try await withThrowingDiscardingTaskGroup { group in
        while let socket = try await listener.read() {
          group.addTask(executorPreference: UVLoop.shared) {
            while let bytes = try await socket.read() { try await socket.write(bytes) }
            try await socket.close()
          }
        }
      }
    }
    let loop = try UVLoop(name: "clients")
    defer { loop.stop() }
    var sockets: [SocketStream] = []
    for _ in 0..<count { sockets.append(try await TCP.connect("127.0.0.1", port: listener.port, on: loop)) }
    for round in 0..<10 {
      // All are readable at once: in as few turns as there can be.
      let clients = sockets
      try await loop.run {
        for (index, socket) in clients.enumerated() { try socket.push(Bytes("\(index) in \(round)")) }
      }
      for (index, socket) in sockets.enumerated() { #expect(try await socket.read() == Bytes("\(index) in \(round)")) }
    }
    for socket in sockets {
      try await socket.close()
      #expect(try await socket.read() == nil)
    }
    listener.cancel()
    try await echo.value
  }
}
