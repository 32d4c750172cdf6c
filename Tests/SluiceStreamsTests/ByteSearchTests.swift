import SluiceStreams
import Testing

@Suite("Looking for a byte")
struct ByteSearchTests {
  @Test(
    "the first of it, and of two, wherever they stand and whatever lies around the slice",
    arguments: [0, 1, 2, 1023, 1024, 1025, 2047, 2048, 5000])
  func first(count: Int) {
    let places = [nil, 0, 1, 1022, 1023, 1024, 1025, 2047, 2048, 4999].filter { $0.map { $0 < count } ?? true }
    for line in places {
      for other in places {
        var bytes = [UInt8](repeating: UInt8(ascii: "x"), count: count)
        if let other { bytes[other] = 0x0D }
        if let line { bytes[line] = 0x0A }
        // What stands before and behind the slice is not looked at.
        let slice = Bytes([0x0A, 0x0D] + bytes + [0x0A, 0x0D]).dropFirst(2).dropLast(2)
        #expect(slice.firstOffset(of: 0x0A) == bytes.firstIndex(of: 0x0A))
        #expect(slice.firstOffset(of: 0x0A, or: 0x0D) == bytes.firstIndex { $0 == 0x0A || $0 == 0x0D })
        #expect(slice.firstOffset(of: 0x0D, or: 0x0A) == slice.firstOffset(of: 0x0A, or: 0x0D))
      }
    }
  }
}
