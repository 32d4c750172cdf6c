import SluiceStreams
import Testing

@testable import SluiceWebSocketProtocol

/// A generator with a seed, so that a failure can be had again.
private struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var number = state
    number = (number ^ (number >> 30)) &* 0xBF58_476D_1CE4_E5B9
    number = (number ^ (number >> 27)) &* 0x94D0_49BB_1331_11EB
    return number ^ (number >> 31)
  }
}

@Suite("ATTACKS 9, 16: random input")
struct FrameFuzzTests {
  /// Frames that are mostly right, with a byte changed here and there.
  private static func input(_ generator: inout SplitMix, role: WebSocketRole) -> [UInt8] {
    var input: [UInt8] = []
    for _ in 0..<Int.random(in: 1...5, using: &generator) {
      let first: UInt8 = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A].randomElement(using: &generator)!
      let size = [0, 1, 2, 5, 20, 125, 126, 200].randomElement(using: &generator)!
      let isText = Bool.random(using: &generator)
      let payload = (0..<size).map { _ in
        isText ? UInt8.random(in: 0x20...0x7E, using: &generator) : UInt8.random(in: 0...255, using: &generator)
      }
      input += frame(first, payload, for: role)
    }
    for _ in 0..<Int.random(in: 0...2, using: &generator) {
      input[Int.random(in: 0..<input.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
    }
    return input
  }

  @Test(
    "whatever comes, and however it is split, all readers find the same", arguments: [WebSocketRole.client, .server])
  func agree(role: WebSocketRole) {
    for seed in 0..<1500 {
      var generator = SplitMix(state: UInt64(seed))
      let input = Self.input(&generator, role: role)
      let expected = decode([input], role: role, reader: .assembler)
      let cut = Int.random(in: 0...input.count, using: &generator)
      for reader in Reader.allCases {
        for chunks in [[input], input.map { [$0] }, [Array(input[..<cut]), Array(input[cut...])]] {
          let found = decode(chunks, role: role, reader: reader)
          // A length that only the assembler finds too big is not an error to who takes pieces.
          if reader == .pieces, case .error(.messageTooBig)? = expected.last { continue }
          if found != expected {
            Issue.record("seed \(seed), \(reader), \(chunks.count) chunks: \(found), \(expected)")
          }
        }
      }
    }
  }

  @Test("random bytes never trap")
  func noTrap() {
    for seed in 0..<20_000 {
      var generator = SplitMix(state: UInt64(seed) << 20)
      var input = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      if input.count > 1, Bool.random(using: &generator) {
        input[0] = [0x81, 0x82, 0x01, 0x88].randomElement(using: &generator)!
        input[1] = [0xFE, 0xFF, 0x82, 0x7F].randomElement(using: &generator)!
      }
      let reader = Reader.allCases[seed % Reader.allCases.count]
      _ = decode([input], role: seed % 2 == 0 ? .server : .client, reader: reader)
    }
  }
}
