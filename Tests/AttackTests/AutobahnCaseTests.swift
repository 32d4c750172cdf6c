import Sluice
import SystemPackage
import Testing

/// What the Autobahn suite sends in each of its cases, as `Cases/record` wrote it down.
struct AutobahnCase: Sendable, CustomTestStringConvertible {
  let number: String
  let bytes: [UInt8]

  var testDescription: String { number }

  static func all() async throws -> [AutobahnCase] {
    let folder = #filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.startIndex)
    let text: Bytes = try await File.open(FilePath(folder + "/Cases/autobahn.txt")).collect(limit: 1 << 20)
    return text.string.split(separator: "\n").map { line in
      let parts = line.split(separator: " ")
      let digits = Array(parts[1].utf8)
      let bytes = stride(from: 0, to: digits.count, by: 2).map {
        UInt8(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 16) ?? 0
      }
      return AutobahnCase(number: String(parts[0]), bytes: bytes)
    }
  }
}

@Suite("Attack 9: the Autobahn cases in pieces", .timeLimit(.minutes(5)))
struct AutobahnCaseTests {
  @Test("attack 9: every case split at each byte, and byte by byte, gets the same answer")
  func splits() async throws {
    let cases = try await AutobahnCase.all()
    #expect(cases.count > 200)
    for each in cases {
      let answers = try await answersHoweverSplit(each.bytes)
      #expect(answers.count == 1, "\(each.number)")
    }
  }
}
