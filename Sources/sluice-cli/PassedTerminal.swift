import ArgumentParser
import Sluice
import SluiceIO
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The terminal that the tool is run in, passed through to what it is connected to: each key as it is typed, control characters both ways.
final class PassedTerminal: Sendable {
  private static let settings = Mutex<TerminalSettings?>(nil)

  /// - Returns: nil if standard input is no terminal.
  init?() {
    guard isatty(STDIN_FILENO) == 1 else { return nil }
  }

  /// The size of its window; nil if that is not known.
  static var window: ChildProcess.WindowSize? { TerminalSettings.window(of: STDIN_FILENO) }

  /// Begins to pass it through.
  func begin() {
    Self.settings.withLock { settings in
      if settings == nil { settings = TerminalSettings.makeRaw(STDIN_FILENO) }
    }
  }

  /// Puts the terminal back as it was: before the process ends, however it does.
  static func restore() {
    settings.withLock { settings in
      settings?.restore()
      settings = nil
    }
  }

  /// Gives a command's terminal the size of this one, whenever that changes, until the command has exited.
  func resize(_ child: ChildProcess) {
    let changes = Signals([.windowChange])
    let resizing = Task {
      for try await _ in changes {
        if let window = Self.window { child.resize(window) }
      }
    }
    Task {
      _ = try? await child.waitForExit()
      changes.cancel()
      resizing.cancel()
    }
  }
}

/// `COLUMNSxROWS`.
struct WindowArgument: ExpressibleByArgument, Sendable {
  let size: ChildProcess.WindowSize

  init?(argument: String) {
    let numbers = argument.split(separator: "x", omittingEmptySubsequences: false).map { UInt16($0) }
    guard numbers.count == 2, let columns = numbers[0], let rows = numbers[1], columns > 0, rows > 0 else { return nil }
    size = ChildProcess.WindowSize(columns: columns, rows: rows)
  }
}
