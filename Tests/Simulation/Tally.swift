import Foundation
import SluiceStreams

/// What became of many worlds.
struct Tally {
  private let start = ContinuousClock.now
  private var virtual = Duration.zero
  private(set) var failures = 0
  private(set) var count = 0
  private var outcomes: [String: Int] = [:]
  /// A hash of all traces: the same for the same worlds in another build of the same sources.
  private var trace: UInt64 = 0xcbf2_9ce4_8422_2325

  var time: Duration { ContinuousClock.now - start }

  /// - Returns: whether it broke a rule.
  @discardableResult
  mutating func play(_ plan: Plan, _ identities: Identities, isVerbose: Bool = false) async throws -> Bool {
    if isVerbose { print(plan) }
    count += 1
    let result = try await Stage.run(plan, identities)
    virtual += result.virtualTime
    trace = (trace ^ result.trace) &* 0x100_0000_01b3
    for outcome in result.outcomes { outcomes[outcome, default: 0] += 1 }
    for fault in plan.world.faultNames { outcomes["fault: \(fault)", default: 0] += 1 }
    outcomes["world: \(type(of: plan.world))", default: 0] += 1
    if isVerbose {
      print("  trace \(String(result.trace, radix: 16)) in \(result.virtualTime) of virtual time\n  \(plan.json)")
    }
    if result.violations.isEmpty { return false }
    failures += 1
    print("FAILED after \(time.components.seconds) s: \(plan)")
    for violation in result.violations { print("  - \(violation)") }
    fflush(nil)
    let small = try await shrink(plan, result.violations, identities)
    print("  what it needs: \(small.plan)")
    for violation in small.violations { print("  - \(violation)") }
    print("  \(small.plan.json)")
    fflush(nil)
    return true
  }

  /// What is left of a plan when everything is taken away without which the same rule is still broken.
  private func shrink(
    _ plan: Plan, _ violations: [String], _ identities: Identities
  ) async throws -> (plan: Plan, violations: [String]) {
    var smallest = (plan: plan, violations: violations)
    let deadline = ContinuousClock.now + .seconds(20)
    search: while true {
      for simpler in smallest.plan.simpler where ContinuousClock.now < deadline {
        let result = try await Stage.run(simpler, identities)
        guard Self.kinds(result.violations) == Self.kinds(violations) else { continue }
        smallest = (simpler, result.violations)
        continue search
      }
      return smallest
    }
  }

  /// Which rules they are about: the words, without figures and causes.
  private static func kinds(_ violations: [String]) -> Set<String> {
    Set(violations.map { $0.prefix { $0 != ":" }.filter { !$0.isNumber } })
  }

  /// - Parameters:
  ///   - branches: A file with the names of all branches that count.
  ///   - isLong: Whether each of them must have been reached.
  /// - Returns: whether that is so.
  func report(branches: String?, isLong: Bool) -> Bool {
    print(
      "\(count) worlds, \(virtual.components.seconds / 3600) virtual hours, in \(time.components.seconds) s; \(failures) broke a rule; trace \(String(trace, radix: 16))"
    )
    for (outcome, number) in outcomes.sorted(by: { $0.key < $1.key }) { print("  \(number) × \(outcome)") }
    guard let branches, let names = try? String(contentsOfFile: branches, encoding: .utf8) else { return true }
    let all = names.split(separator: "\n").map { String($0) }
    let reached = Reached.all
    print("branches reached:")
    for name in all { print("  \(reached[name] ?? 0) × \(name)") }
    let missed = all.filter { reached[$0] == nil }
    if !missed.isEmpty {
      print("\(missed.count) of \(all.count) branches not reached: \(missed.joined(separator: " "))")
    }
    return missed.isEmpty || !isLong
  }
}
