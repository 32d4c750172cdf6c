import SluiceStreams
import SluiceZlib
import Testing

@Suite("Gzip (RFC 1952)")
struct GzipTests {
  private func gunzip(_ input: Bytes) -> (text: Bytes, isComplete: Bool)? {
    guard let inflater = Inflater(windowBits: 15, format: .gzip) else { return nil }
    var all = BytesBuilder()
    var rest = input
    while true {
      var output = BytesBuilder(capacity: 1 << 16)
      guard let step = inflater.inflate(rest.span, to: &output, limit: 1 << 16) else { return nil }
      rest = rest.dropFirst(step.consumed)
      all.append(output.take())
      if !step.hasMore { return (all.take(), inflater.isBetweenMembers) }
    }
  }

  private func gzip(_ pieces: [Bytes], joined: [Bytes] = []) -> Bytes {
    var writer = GzipWriter(DeflateSettings(windowBits: 15))
    var output = BytesBuilder()
    output.append(GzipWriter.header)
    for piece in pieces { writer.append(piece.span, to: &output) }
    for text in joined {
      let piece = DeflatedPiece(text)
      output.append(piece.bytes)
      writer.join(piece)
    }
    // Of this writer's own again, behind what was joined.
    if !joined.isEmpty { writer.append(("end" as Bytes).span, to: &output) }
    writer.finish(to: &output)
    return output.take()
  }

  @Test(
    "pieces of every size, stored or compressed, come out as they were, with the right checksum",
    arguments: [0, 1, 64, 65, 1000, 0xFFFF, 200_000])
  func pieces(size: Int) {
    let piece = Bytes((0..<size).map { UInt8(truncatingIfNeeded: $0 / 3) })
    let result = gunzip(gzip([piece, "between", piece]))
    #expect(result?.text == piece.followed(by: "between").followed(by: piece))
    #expect(result?.isComplete == true)
  }

  @Test("pieces that were compressed elsewhere join the checksum")
  func joined() {
    let long = Bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 7) })
    let result = gunzip(gzip(["first"], joined: [long, "short", long]))
    #expect(
      result?.text == ("first" as Bytes).followed(by: long).followed(by: "short").followed(by: long).followed(by: "end")
    )
    #expect(result?.isComplete == true)
  }

  @Test("one member may follow another; a checksum that is wrong is an error, an end that is missing is told")
  func ends() {
    let one = gzip(["one"])
    #expect(gunzip(one.followed(by: one))?.text == "oneone")
    var wrong = Array(one)
    wrong[wrong.count - 8] ^= 1
    #expect(gunzip(Bytes(wrong)) == nil)
    #expect(gunzip(one.dropLast())?.isComplete == false)
  }
}

extension Bytes {
  fileprivate func followed(by other: Bytes) -> Bytes {
    var builder = BytesBuilder()
    builder.append(self)
    builder.append(other)
    return builder.take()
  }
}
