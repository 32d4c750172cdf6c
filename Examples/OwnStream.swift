import Sluice
import Synchronization

// Streams of your own: what conforms to two or three methods is piped like everything else.

/// Numbers, one after each pause.
final class Ticks: ReadableStream {
  typealias Output = Int
  private let next = Mutex<Int?>(0)
  private let pause: Duration

  init(every pause: Duration) { self.pause = pause }

  func read() async throws -> Int? {
    try await Task.sleep(for: pause)
    return next.withLock { number in
      guard let current = number else { return nil }
      number = current + 1
      return current
    }
  }

  func cancel(_ reason: (any Error)?) { next.withLock { $0 = nil } }
}

/// Adds up what is written.
final class Sum: WritableStream {
  typealias Input = Int
  private let sum = Mutex(0)

  var value: Int { sum.withLock { $0 } }

  func write(_ element: Int) async throws { sum.withLock { $0 += element } }
  func close() async throws {}
  func abort(_ reason: any Error) {}
}

/// Leaves out what is the same as the element before.
struct WithoutRepeats<Element: Sendable & Equatable>: Transform {
  private var last: Element?

  init() {}

  mutating func transform(_ input: consuming Element, into output: inout TransformOutput<Element>) {
    let element = input
    if element == last { return }
    last = element
    output.append(element)
  }
}

func ownStreams() async throws {
  let sum = Sum()
  try await Ticks(every: .milliseconds(10)).prefix(5).map { $0 / 2 }.pipe(through: WithoutRepeats()).pipe(sum)
  print("the sum is", sum.value)
}
