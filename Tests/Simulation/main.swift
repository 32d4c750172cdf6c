import Foundation
import Sluice
import SluiceStreams
import SluiceTestSupport
import SluiceTesting

/// simulate [--seeds N] [--from SEED] [--seed SEED] [--minutes M] [--world KIND] [--plan FILE] [--corpus] [--until-failure] [--plans FOLDER] [--branches FILE]
///
/// Runs worlds by their seeds, one after the other. Of one that breaks a rule it prints what is left of it when everything is taken away that the
/// failure does not need, and as a plan that `--plan` plays again. `--corpus` plays the plans of a folder first: those that have failed once.
/// Exits with 1 if a rule was broken; also, after 10,000 worlds, if a branch of those listed was never reached.
struct Options {
  var seeds: UInt64 = 2000
  var first: UInt64 = 1
  var minutes: Double?
  var isVerbose = false
  var kind: String?
  var plan: String?
  var plans: String?
  var playsCorpus = false
  var branches: String?
  var maxFailures = 10

  init(_ arguments: [String]) {
    var rest = arguments.dropFirst()
    func fail() -> Never {
      print(
        "usage: simulate [--seeds N] [--from SEED] [--seed SEED] [--minutes M] [--world \(Plan.kinds.joined(separator: "|"))] [--plan FILE] [--corpus] [--until-failure]"
      )
      exit(64)
    }
    while let name = rest.popFirst() {
      if name == "--corpus" {
        playsCorpus = true
        continue
      }
      if name == "--until-failure" {
        maxFailures = 1
        continue
      }
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
      case ("--world", _, _) where Plan.kinds.contains(value): kind = value
      case ("--plan", _, _): plan = value
      case ("--plans", _, _): plans = value
      case ("--branches", _, _): branches = value
      default: fail()
      }
    }
  }
}

let isGood = try await simulate(Options(CommandLine.arguments))
exit(isGood ? 0 : 1)

func simulate(_ options: Options) async throws -> Bool {
  let identities = try await Identities.load()
  var tally = Tally()
  if let plan = options.plan {
    try await tally.play(Plan(contentsOf: plan), identities, isVerbose: true)
    return tally.failures == 0
  }
  if options.playsCorpus, let folder = options.plans {
    for (name, plan) in try Plan.all(in: folder) where try await tally.play(plan, identities) {
      print("  it is \(name)")
    }
  }
  var count: UInt64 = 0
  while count < options.seeds, tally.failures < options.maxFailures {
    if let minutes = options.minutes, tally.time > .seconds(minutes * 60) { break }
    let plan = Plan(seed: options.first &+ count, kind: options.kind)
    try await tally.play(plan, identities, isVerbose: options.isVerbose)
    count += 1
  }
  let isComplete = tally.report(branches: options.branches, isLong: tally.count >= 10_000 && options.kind == nil)
  return tally.failures == 0 && isComplete
}
