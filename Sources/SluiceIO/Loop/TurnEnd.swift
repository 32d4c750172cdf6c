import SluiceStreams

/// Who is told of the end of a turn, in the order in which they asked; some may ask meanwhile.
///
/// A deque or an array counts and checks more than the flush of a small message costs.
@safe struct TurnEnd: ~Copyable {
  private var objects: UnsafeMutablePointer<any EndOfTurn>
  private var capacity = 64
  private var next = 0
  private var end = 0

  init() { unsafe objects = .allocate(capacity: capacity) }

  deinit {
    unsafe (objects + next).deinitialize(count: end - next)
    unsafe objects.deallocate()
  }

  var isEmpty: Bool { next == end }
  var count: Int { end - next }

  mutating func append(_ object: consuming any EndOfTurn) {
    if end == capacity { makeRoom() }
    unsafe (objects + end).initialize(to: object)
    end += 1
  }

  mutating func popFirst() -> (any EndOfTurn)? {
    guard next < end else { return nil }
    let object = unsafe (objects + next).move()
    next += 1
    if next == end {
      next = 0
      end = 0
    }
    return object
  }

  /// Takes back what was appended last, if it is this.
  mutating func removeLast(_ object: any EndOfTurn) -> Bool {
    guard next < end, unsafe objects[end - 1] === object else { return false }
    end -= 1
    unsafe (objects + end).deinitialize(count: 1)
    if next == end {
      next = 0
      end = 0
    }
    return true
  }

  @inline(never)
  private mutating func makeRoom() {
    let count = end - next
    if count > capacity / 2 { capacity *= 2 }
    let moved = UnsafeMutablePointer<any EndOfTurn>.allocate(capacity: capacity)
    unsafe moved.moveInitialize(from: objects + next, count: count)
    unsafe objects.deallocate()
    unsafe objects = moved
    next = 0
    end = count
  }
}
