// The parts of a soak, each a process of its own, which Tests/Soak/soak.py starts and watches:
//   soak server FOLDER                               echoes WebSocket messages; prints its two ports, plain and secure
//   soak relay PLAIN SECURE [--seed S]               passes connections on to them, badly; prints two ports of its own
//   soak clients PLAIN SECURE FOLDER --connections N --seconds T [--seed S]
// FOLDER is that of the certificates.
// Each prints a line of figures every few seconds, and ends with its standard input.
import Sluice
import SluiceIO
import SluiceTesting
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

signal(SIGPIPE, SIG_IGN)
let arguments = Array(CommandLine.arguments.dropFirst())

func option(_ name: String, _ standard: Int) -> Int {
  arguments.firstIndex(of: name).flatMap { $0 + 1 < arguments.count ? Int(arguments[$0 + 1]) : nil } ?? standard
}

func folder(_ index: Int) -> FilePath { FilePath(index < arguments.count ? arguments[index] : ".") }

func number(_ index: Int) -> Int { index < arguments.count ? Int(arguments[index]) ?? 0 : 0 }

switch arguments.first {
case "server": try await whileAsked { try await EchoServer(folder(1)).run() }
case "relay":
  // On the loop of the sockets, without a hop for each call.
  let relay = FaultyRelay(seed: UInt64(option("--seed", 1)))
  try await whileAsked {
    try await withTaskExecutorPreference(UVLoop.shared) { try await relay.run(plain: number(1), secure: number(2)) }
  }
  relay.sayWhatWasSpoilt()
case "clients":
  let clients = try ChurningClients(
    plain: number(1), secure: number(2), count: option("--connections", 5000), time: .seconds(option("--seconds", 60)),
    seed: UInt64(option("--seed", 1)), folder(3))
  try await withTaskExecutorPreference(UVLoop.shared) { try await clients.run() }
default:
  print(
    "usage: soak server FOLDER | relay PLAIN SECURE [--seed S] | clients PLAIN SECURE FOLDER --connections N --seconds T [--seed S]"
  )
  exit(64)
}

/// Says a line at once.
func say(_ line: String) {
  print(line)
  fflush(nil)
}

/// Until standard input ends.
func whileAsked(_ body: @escaping @Sendable () async throws -> Void) async throws {
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await body() }
    group.addTask { while try await StandardStream.input().read() != nil {} }
    try await group.next()
    group.cancelAll()
    // That its parts were cancelled is no failure.
    while (try? await group.next()) ?? nil != nil {}
  }
}
