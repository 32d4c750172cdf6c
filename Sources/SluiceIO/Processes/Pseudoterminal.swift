import CSluiceSystem
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension ChildProcess {
  /// The size of a terminal's window, in characters.
  public struct WindowSize: Hashable, Sendable {
    public var columns: UInt16
    public var rows: UInt16

    /// Default: 80 columns, 24 rows.
    public init(columns: UInt16 = 80, rows: UInt16 = 24) {
      self.columns = columns
      self.rows = rows
    }
  }

  /// Runs a command line in the shell, in a terminal: a pseudoterminal is its standard input, output and error, and its controlling terminal, so
  /// that it shows a prompt, edits lines and has job control. What is written here is typed there; what it shows is read.
  ///
  /// ```swift
  /// let shell = try await ChildProcess.terminal("bash")
  /// try await bridge(shell, ws, framing: .none, kind: .binary)
  /// ```
  ///
  /// Closing it types the end of the input, Control-D, as a user would; when both halves are over, the terminal is hung up (SIGHUP).
  /// - Parameters:
  ///   - window: The size of its window; `resize` changes it.
  ///   - environment: As for `spawn`. A `TERM` in it says what kind of terminal its programs may take it for.
  /// - Throws: As `spawn`; `IOError` also where there are no more pseudoterminals.
  public static func terminal(
    _ command: String, window: WindowSize = WindowSize(), environment: [String: String]? = nil,
    ending: Ending = Ending(), on loop: UVLoop = .shared
  ) async throws -> ChildProcess {
    try await spawn(
      // The first terminal that a session's leader opens becomes its controlling one.
      ["/bin/sh", "-c", #"exec 3<>"$0" && exec 3>&- && exec /bin/sh -c "$1""#, terminalPlace, command],
      environment: environment, ending: ending, window: window, on: loop)
  }

  /// Stands in the arguments for the path of the terminal.
  static let terminalPlace = "/dev/tty"

  /// Tells the terminal that its window has another size; of a process without a terminal, does nothing.
  public func resize(_ window: WindowSize) {
    loop.perform { self.setWindow(window) }
  }
}

/// A pseudoterminal: the terminal that a child has, and the end of it that is ours. Others have descriptors of their own of both; these are closed when
/// this goes.
final class Pseudoterminal {
  let path: String
  private let controller: CInt
  private let terminal: CInt

  init(_ window: ChildProcess.WindowSize) throws {
    var terminal: CInt = -1
    var path = [CChar](repeating: 0, count: 256)
    controller = unsafe sluice_open_pseudoterminal(&terminal, &path, UInt(path.count), window.columns, window.rows)
    guard controller >= 0 else { throw IOError("open", "a pseudoterminal", status: controller) }
    self.terminal = terminal
    self.path = path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }.text
  }

  /// Descriptors for one half of a stream: ours, and the child's.
  func anotherHalf() throws -> (ours: CInt, childs: CInt) {
    let ours = sluice_duplicate(controller)
    guard ours >= 0 else { throw IOError("open", path, status: ours) }
    let childs = sluice_duplicate(terminal)
    guard childs >= 0 else {
      _ = closeDescriptor(ours)
      throw IOError("open", path, status: childs)
    }
    return (ours, childs)
  }

  deinit {
    guard controller >= 0 else { return }
    _ = closeDescriptor(controller)
    _ = closeDescriptor(terminal)
  }
}

/// How the user's own terminal behaves, to be put back.
package struct TerminalSettings: Sendable {
  private let descriptor: CInt
  private let settings: termios

  /// Has a terminal pass on each key as it is typed, without echo, and obey what is written.
  /// - Returns: how it was; nil for what is no terminal.
  package static func makeRaw(_ descriptor: CInt) -> TerminalSettings? {
    var before = termios()
    guard unsafe sluice_make_raw(descriptor, &before) == 0 else { return nil }
    return TerminalSettings(descriptor: descriptor, settings: before)
  }

  package func restore() {
    var settings = settings
    unsafe tcsetattr(descriptor, TCSADRAIN, &settings)
  }

  /// The size of a terminal's window; nil for what is no terminal, or does not know.
  package static func window(of descriptor: CInt) -> ChildProcess.WindowSize? {
    var size = ChildProcess.WindowSize()
    guard unsafe sluice_window(descriptor, &size.columns, &size.rows) == 0, size.columns > 0, size.rows > 0 else {
      return nil
    }
    return size
  }
}
