import HTTPTypes
import SluiceStreams

extension HTTPFields {
  /// - Parameter name: In lower case.
  func values(named name: String) -> [String] {
    compactMap { $0.name.canonicalName == name ? $0.value : nil }
  }
}
