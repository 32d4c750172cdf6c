import SluiceIO
import SluiceStreams
import SystemPackage

package enum FileContents {
  package static func read(_ path: FilePath) async throws -> Bytes {
    var all = BytesBuilder()
    for try await chunk in try await File.open(path) { all.append(chunk) }
    return all.take()
  }
}
