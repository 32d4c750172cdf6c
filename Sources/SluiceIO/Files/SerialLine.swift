import CSluiceSystem
import SluiceStreams

/// Serial lines, such as those of microcontrollers and modems.
package enum SerialLine {
  /// Opens one, and has it pass on what comes and goes as it is (raw). It stays so afterwards.
  /// - Parameter baud: Bits per second; nil for as it is set.
  /// - Throws: `IOError`: ENOTTY for what is no terminal, EINVAL for a speed that it can't have.
  package static func open(_ path: String, baud: Int?, on loop: UVLoop = .shared) async throws -> SocketStream {
    guard !path.utf8.contains(0), let speed = UInt32(exactly: baud ?? 0) else {
      throw IOError(operation: "open", subject: path, code: "EINVAL", reason: "invalid argument")
    }
    return try await loop.run {
      let descriptor = unsafe sluice_open_serial(path, speed)
      guard descriptor >= 0 else { throw IOError("open", path, status: descriptor) }
      let watch = try DescriptorWatch(descriptor, on: loop, operation: "open", subject: path)
      return SocketStream(watch, on: loop, name: path, isSocket: false)
    }
  }
}
