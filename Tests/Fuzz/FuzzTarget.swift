import SluiceStreams

#if canImport(Glibc)
  @_exported import Glibc
#elseif canImport(Musl)
  @_exported import Musl
#else
  @_exported import Darwin
#endif

/// Something that takes any bytes.
protocol FuzzTarget {
  static var name: String { get }

  /// Takes an input. Traps if what it finds is not what it promises.
  static func run(_ input: Bytes)

  /// An input that gets further than noise does, for the loop that no coverage guides.
  static func randomInput(_ generator: inout SplitMix) -> Bytes
}

/// A generator with a seed, so that an input can be had again.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var number = state
    number = (number ^ (number >> 30)) &* 0xBF58_476D_1CE4_E5B9
    number = (number ^ (number >> 27)) &* 0x94D0_49BB_1331_11EB
    return number ^ (number >> 31)
  }

  /// A number below a bound; that small ones come a little more often does not matter here.
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
}

nonisolated(unsafe) var lastState: UInt64 = 0  // one thread

/// What a target promises.
func promise(_ holds: Bool, _ what: @autoclosure () -> String) {
  if holds { return }
  unsafe print("broken promise: \(what()) (loop: --inputs 1 --seed \(lastState))")
  fflush(nil)
  fatalError()
}

/// Takes what chooses how an input is used off its front.
struct InputReader {
  private(set) var rest: Bytes

  init(_ input: Bytes) { rest = input }

  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  /// The rest in two pieces, or in pieces of one byte.
  mutating func pieces() -> [Bytes] {
    let cut = Int(byte())
    if cut == 255 && !rest.isEmpty { return rest.indices.map { rest[$0...$0] } }
    return [rest.prefix(cut), rest.dropFirst(cut)]
  }
}
