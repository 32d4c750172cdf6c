import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// simulate [--seeds N] [--from SEED] [--seed SEED] [--minutes M]
///
/// Runs worlds by their seeds, one after the other. Of one that breaks a rule it prints what is left of it when everything is taken away that the
/// failure does not need. Exits with 1 if there was one.
struct Options {
  var seeds: UInt64 = 2000
  var first: UInt64 = 1
  var minutes: Double?
  var isVerbose = false

  init(_ arguments: [String]) {
    var rest = arguments.dropFirst()
    func fail() -> Never {
      print("usage: simulate [--seeds N] [--from SEED] [--seed SEED] [--minutes M]")
      exit(64)
    }
    while let name = rest.popFirst() {
      guard let value = rest.popFirst() else { fail() }
      switch (name, UInt64(value), Double(value)) {
      case ("--seeds", let number?, _): seeds = number
      case ("--from", let number?, _): first = number
      case ("--seed", let number?, _):
        (first, seeds) = (number, 1)
        isVerbose = true
      case ("--minutes", _, let number?):
        minutes = number
        seeds = .max
      default: fail()
      }
    }
  }
}

let options = Options(CommandLine.arguments)
let identities = try await Identities.load()
let start = ContinuousClock.now
var virtual = Duration.zero
var failures = 0
var count: UInt64 = 0
var outcomes: [String: Int] = [:]

while count < options.seeds {
  if let minutes = options.minutes, ContinuousClock.now - start > .seconds(minutes * 60) { break }
  let plan = Plan(seed: options.first &+ count)
  count += 1
  let result = try await World(plan: plan, identities: identities).run()
  virtual += result.virtualTime
  for outcome in result.outcomes { outcomes[outcome, default: 0] += 1 }
  for fault in plan.faults { outcomes["fault: \("\(fault)".prefix { $0 != "(" })", default: 0] += 1 }
  if options.isVerbose {
    print(
      "\(plan)\n  trace \(String(result.trace, radix: 16)), \(result.received) bytes in \(result.virtualTime) of virtual time"
    )
  }
  if result.violations.isEmpty { continue }
  failures += 1
  print("FAILED \(plan)")
  for violation in result.violations { print("  - \(violation)") }
  fflush(nil)
  let small = try await shrink(plan, result.violations)
  print("  what it needs: \(small.plan)")
  for violation in small.violations { print("  - \(violation)") }
  fflush(nil)
  if failures >= 10 { break }
}

let time = ContinuousClock.now - start
print(
  "\(count) worlds, \(virtual.components.seconds / 60) virtual minutes, in \(time.components.seconds) s; \(failures) broke a rule"
)
for (outcome, number) in outcomes.sorted(by: { $0.key < $1.key }) { print("  \(number) × \(outcome)") }
exit(failures == 0 ? 0 : 1)

/// What is left of a plan when everything is taken away without which the same rule is still broken.
func shrink(_ plan: Plan, _ violations: [String]) async throws -> (plan: Plan, violations: [String]) {
  var smallest = (plan: plan, violations: violations)
  search: while true {
    for simpler in smallest.plan.simpler {
      let result = try await World(plan: simpler, identities: identities).run()
      guard kinds(result.violations) == kinds(violations) else { continue }
      smallest = (simpler, result.violations)
      continue search
    }
    return smallest
  }
}

/// Which rules they are about: the words, without figures and causes.
func kinds(_ violations: [String]) -> Set<String> {
  Set(violations.map { $0.prefix { $0 != ":" }.filter { !$0.isNumber } })
}
