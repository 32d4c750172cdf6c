import Sluice

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// What the tool says on standard error.
struct Diagnostics: Sendable {
  let isVerbose: Bool
  let isQuiet: Bool

  /// What ends the run, with the words of a server that refused.
  func error(_ error: any Error) {
    write("sluice: \(error)")
    for line in RefusalText(of: error).lines { write("  " + line) }
  }

  /// What the user must know to go on, such as a port.
  func notice(_ text: String) { if !isQuiet { write("sluice: \(text)") } }

  func tellOfExhaustion(_ error: any Error) {
    notice("accepting paused: out of file descriptors (ulimit -n): \(error)")
  }

  func verbose(_ text: @autoclosure () -> String) { if isVerbose { write("sluice: \(text())") } }

  /// On a terminal, each is written over the one before; the last one stays.
  func progress(_ text: String, isLast: Bool) {
    let clearRest = "\u{1B}[K"
    let isTerminal = isatty(2) == 1
    write(text, terminator: (isTerminal ? clearRest : "") + (isTerminal && !isLast ? "\r" : "\n"))
  }

  private func write(_ text: String, terminator: String = "\n") {
    // What a peer had a part in must not command the terminal.
    let line = text.escapingControls + terminator
    var rest = Array(line.utf8)[...]
    while !rest.isEmpty {
      let count = unsafe rest.withUnsafeBytes { unsafe systemWrite(2, $0.baseAddress, $0.count) }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }
}

private func systemWrite(_ descriptor: CInt, _ base: UnsafeRawPointer?, _ count: Int) -> Int {
  unsafe write(descriptor, base, count)
}
