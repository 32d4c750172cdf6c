import Foundation
import Sluice
import SluiceCodable
import SluiceTesting
import Testing

@Suite("values as JSON, and bytes as others have them", .timeLimit(.minutes(1)))
struct JSONTests {
  struct Move: Codable, Sendable, Equatable {
    var from: String
    var to: String
    var note: String?
  }

  @Test("values are sent and read; a message that is none throws where it is read")
  func values() async throws {
    try await SimulatedLoop.run { _ in
      let (client, server) = try await WebSocket.pair()
      let moves = [Move(from: "e2", to: "e4", note: nil), Move(from: "ö", to: "\u{1F600}", note: "\"")]
      for move in moves { try await client.send(json: move) }
      try await client.send("{}")
      let reading = server.messages(of: Move.self)
      for move in moves { #expect(try await reading.read() == move) }
      await #expect(throws: DecodingError.self) { _ = try await reading.read() }
      client.abort()
    }
  }

  @Test("a message is text of JSON, and binary ones are read too")
  func messages() throws {
    let message = try Message.json(["a": 1])
    #expect(message.isText && message.text == "{\"a\":1}")
    #expect(try Message.binary(message.bytes).decoded(as: [String: Int].self) == ["a": 1])
    #expect(throws: DecodingError.self) { try Message("x").decoded(as: [String: Int].self) }
    let event = try ServerSentEvent.json([1, 2], event: "numbers", id: "7")
    #expect(event.data == "[1,2]" && event.event == "numbers" && event.id == "7")
    #expect(try event.decoded(as: [Int].self) == [1, 2])
  }

  @Test("bytes are made of, and make, arrays, Data and strings")
  func bytes() {
    let bytes: Bytes = [104, 105]
    #expect(Bytes(Data([104, 105])) == bytes && Data(bytes) == Data([104, 105]))
    #expect(Array(bytes) == [104, 105] && Bytes([UInt8]([104, 105])) == bytes)
    #expect(String(bytes) == "hi" && Bytes("hi") == bytes)
    #expect(String(validating: [0xFF] as Bytes, as: UTF8.self) == nil && String([0xFF] as Bytes) == "\u{FFFD}")
  }
}
