import SluiceEventSource
import SluiceStreams
import SluiceWebSocket
import SluiceWebSocketProtocol

#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif

extension Message {
  /// A value as a text message of JSON.
  /// - Throws: `EncodingError`.
  public static func json(_ value: some Encodable, encoder: JSONEncoder = JSONEncoder()) throws -> Message {
    // RFC 8259 §8.1: it is UTF-8.
    try .text(Bytes(encoder.encode(value)))
  }

  /// The value that this message, text or binary, is in JSON.
  /// - Throws: `DecodingError`.
  public func decoded<Value: Decodable>(
    as type: Value.Type = Value.self, decoder: JSONDecoder = JSONDecoder()
  ) throws -> Value {
    try decoder.decode(type, from: Data(bytes))
  }
}

extension WebSocket {
  /// Sends a value as a text message of JSON: see `send(_:)`.
  ///
  /// ```swift
  /// try await ws.send(json: Move(from: "e2", to: "e4"))
  /// ```
  /// - Throws: `EncodingError`, and as `send(_:)`.
  public nonisolated(nonsending) func send(
    json value: some Encodable, encoder: JSONEncoder = JSONEncoder()
  ) async throws {
    try await send(Message.json(value, encoder: encoder))
  }

  /// The messages of this connection as values that they are in JSON.
  ///
  /// ```swift
  /// for try await move in ws.messages(of: Move.self) { board.apply(move) }
  /// ```
  /// Reading throws `DecodingError` for a message that is no such value, and cancels the connection's reading.
  public func messages<Value: Decodable & Sendable>(
    of type: Value.Type = Value.self, decoder: JSONDecoder = JSONDecoder()
  ) -> some ReadableStream<Value> {
    map { try $0.decoded(as: type, decoder: decoder) }
  }
}

extension ServerSentEvent {
  /// An event whose data is a value as JSON.
  /// - Throws: `EncodingError`.
  public static func json(
    _ value: some Encodable, event: String? = nil, id: String? = nil, encoder: JSONEncoder = JSONEncoder()
  ) throws -> ServerSentEvent {
    ServerSentEvent(String(decoding: try encoder.encode(value), as: UTF8.self), event: event, id: id)
  }

  /// The value that the event's data is in JSON.
  /// - Throws: `DecodingError`.
  public func decoded<Value: Decodable>(
    as type: Value.Type = Value.self, decoder: JSONDecoder = JSONDecoder()
  ) throws -> Value {
    try decoder.decode(type, from: Data(data.utf8))
  }
}
