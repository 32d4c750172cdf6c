import Synchronization
import SystemPackage

/// A file that keys are appended to, a line at a time.
final class KeyLog: Sendable {
  private let file: Mutex<FileDescriptor>

  init(_ path: FilePath) throws(TLSError) {
    do {
      file = Mutex(
        try FileDescriptor.open(
          path, .writeOnly, options: [.append, .create, .closeOnExec], permissions: .ownerReadWrite))
    } catch {
      throw .invalidOption("key log", reason: "can't open \(path): \(error)")
    }
  }

  func append(_ line: String) {
    file.withLock { file in
      // What can't be logged is no reason to end a connection.
      _ = try? file.writeAll((line + "\n").utf8)
    }
  }

  deinit { file.withLock { try? $0.close() } }
}
