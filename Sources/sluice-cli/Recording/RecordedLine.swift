import Sluice

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A line of a recording, as its JSON has it. Members that are not known here are passed over.
struct RecordedLine: Decodable {
  /// The version, in a header.
  let recording: Double?
  /// Seconds.
  let time: Double?
  let connection: Double?
  let from: String?
  let kind: String?
  let reason: String?
  let data: String?
  let base64: String?

  /// - Returns: nil for what is no object of JSON, or has a member of another type.
  init?(_ line: Bytes) {
    guard let decoded = try? JSONDecoder().decode(Self.self, from: Data(line)) else { return nil }
    self = decoded
  }
}
