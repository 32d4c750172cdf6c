// Feeds a target with inputs until one traps or breaks what it promises; `scripts/fuzz` builds and runs it.
//   fuzz TARGET [options of libFuzzer]          guided by coverage, where it is built for that (scripts/fuzz does)
//   fuzz TARGET --inputs N [--seed S]           random inputs in a tight loop, as many as are asked for
import SluiceStreams

let targets: [String: any FuzzTarget.Type] = [
  "frames": FramesTarget.self, "handshakes": HandshakesTarget.self, "headers": HeadersTarget.self,
  "inflate": InflateTarget.self, "hixie": HixieTarget.self, "driver": DriverTarget.self,
  "requests": RequestsTarget.self,
  "urls": URLsTarget.self, "read-ahead": ReadAheadTarget.self, "closing": ClosingTarget.self,
  "event-client": EventClientTarget.self, "http-server": HTTPServerTarget.self, "proxies": ProxiesTarget.self,
  "framings": FramingsTarget.self,
]
let arguments = CommandLine.arguments
guard arguments.count > 1, let target = targets[arguments[1]] else {
  print("usage: fuzz \(targets.keys.sorted().joined(separator: "|")) --inputs N [--seed S] | [options of libFuzzer]")
  exit(64)
}

func option(_ name: String) -> UInt64? {
  arguments.firstIndex(of: name).flatMap { $0 + 1 < arguments.count ? UInt64(arguments[$0 + 1]) : nil }
}

if let count = option("--inputs") {
  loop(target, count: count, seed: option("--seed") ?? 1)
} else {
  #if FUZZER
    runLibFuzzer(target, Array(arguments.dropFirst()))
  #else
    print("fuzz: this build has no libFuzzer; use scripts/fuzz, or --inputs")
    exit(64)
  #endif
}

/// Random inputs, one after the other.
func loop(_ target: any FuzzTarget.Type, count: UInt64, seed: UInt64) {
  var generator = SplitMix(state: seed)
  let start = ContinuousClock.now
  for number in 1...max(count, 1) {
    // The state before the input makes it again: --seed STATE --inputs 1.
    unsafe lastState = generator.state
    target.run(target.randomInput(&generator))
    if number % (10 << 20) == 0 || number == count {
      print("\(target.name): \(number) inputs in \(ContinuousClock.now - start)")
      fflush(nil)
    }
  }
}
