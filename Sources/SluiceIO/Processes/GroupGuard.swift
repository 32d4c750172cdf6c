import CSluiceSystem
import SluiceStreams
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Ends the process groups that are left when our own process has died, however it has: a crash and SIGKILL give it no time for that.
///
/// So another process does it: a shell, started with the first command, which reads from a pipe what groups there are. The end of that pipe is our
/// death, or our exit. (Linux's PR_SET_PDEATHSIG would reach a command, but nothing that it has started, and comes already when the *thread* ends that
/// has started it.) Where there is no `/bin/sh`, or no process is to be had, groups have what every process has: their pipes break.
enum GroupGuard {
  fileprivate struct State {
    var groups: [pid_t: ChildProcess.Ending] = [:]
    var running: (process: pid_t, pipe: CInt)?
  }
  private static let state = Mutex(State())

  /// Lines come as `+ GROUP TENTHS TENTHS` and `- GROUP`; the times are tenths of a second.
  fileprivate static let script = """
    # Ends the commands of a process that is gone.
    trap '' HUP INT QUIT TERM
    others() {
      found=1
      for status in /proc/[0-9]*/stat; do
        read -r line <"$status" || continue
        set -- "$1" ${line##*) }
        [ "$5" = "$group" ] && [ "$4" != "$group" ] || continue
        status=${status#/proc/}
        kill -s "$1" "${status%/stat}" && found=0
      done
      return $found
    }
    signal() {
      kill -s "$1" -- "-$group"
      isLed=$?
      [ "$isLed$1" = 00 ] && return
      others "$1" || [ "$isLed" = 0 ]
    }
    lasts() {
      tenths=$1
      while signal 0; do
        [ "$tenths" -gt 0 ] || return 0
        sleep 0.1 || sleep 1
        tenths=$((tenths - 1))
      done
      return 1
    }
    groups=
    while read -r change group times; do
      kept=
      for entry in $groups; do
        [ "${entry%%/*}" = "$group" ] || kept="$kept $entry"
      done
      groups=$kept
      [ "$change" = - ] || groups="$groups $group/${times% *}/${times#* }"
    done
    for entry in $groups; do
      (
        IFS=/
        set -- $entry
        unset IFS
        group=$1
        lasts "$2" && signal TERM && signal CONT && lasts "$3" && signal KILL
      ) &
    done
    wait
    """

  static func add(_ group: pid_t, _ ending: ChildProcess.Ending) {
    state.withLock { state in
      state.groups[group] = ending
      // One that was killed is replaced, and told of all.
      if !state.tell(of: group) { state.restart() }
    }
  }

  static func remove(_ group: pid_t) {
    state.withLock { state in
      guard state.groups.removeValue(forKey: group) != nil else { return }
      if !state.tell(of: group) { state.restart() }
    }
  }
}

extension GroupGuard.State {
  /// - Returns: false if nobody hears it.
  fileprivate func tell(of group: pid_t) -> Bool {
    guard let running else { return false }
    var line = Array("- \(group)\n".utf8)
    if let ending = groups[group] {
      line = Array("+ \(group) \(Self.tenths(ending.terminateAfter)) \(Self.tenths(ending.killAfter))\n".utf8)
    }
    // Less than PIPE_BUF: all of it or nothing.
    return unsafe sluice_send(running.pipe, false, line, UInt(line.count)) == line.count
  }

  fileprivate mutating func restart() {
    if let running {
      // Before its pipe ends, which would be our death to it.
      kill(running.process, SIGKILL)
      _ = closeDescriptor(running.pipe)
      waitpid(running.process, nil, 0)
    }
    var pipe: CInt = -1
    let process = unsafe sluice_start_guard(GroupGuard.script, &pipe)
    running = process > 0 ? (process, pipe) : nil
    for group in groups.keys where !tell(of: group) { return }
  }

  /// A year at the most.
  private static func tenths(_ duration: Duration) -> Int64 {
    (min(max(duration, .zero), .seconds(31_536_000)).wholeMilliseconds + 99) / 100
  }
}
