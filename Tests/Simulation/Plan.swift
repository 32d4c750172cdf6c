import Foundation
import SluiceTesting

/// What one run of the simulation is made of. It can be written down, and played again.
enum Plan: Codable, Sendable {
  case chain(Chain, seed: UInt64)
  case exchange(Exchange, seed: UInt64)
  case room(Room, seed: UInt64)
  case talk(Talk, seed: UInt64)
  case events(ReturningEvents, seed: UInt64)
  case returning(Returning, seed: UInt64)
  case requests(Requests, seed: UInt64)
  case visits(Visits, seed: UInt64)
  case feed(Feed, seed: UInt64)

  private static let firstKinds = ["chain", "exchange", "room", "talk", "events", "returning", "requests", "visits"]
  private static let laterKinds = ["feed"]
  static let kinds = firstKinds + laterKinds

  /// - Parameter kind: nil: by chance.
  init(seed: UInt64, kind: String? = nil) {
    var random = SeededGenerator(seed: seed)
    let chosen = random.pick(["chain", "chain"] + Self.firstKinds)
    // Every eighth seed, by draws of its own: what the others make is what they made before there were these.
    var further = SeededGenerator(seed: seed ^ 0x6C61_7465_726B_696E)
    let later = further.chance(8) ? further.pick(Self.laterKinds) : nil
    switch kind ?? later ?? chosen {
    case "exchange": self = .exchange(Exchange(&random), seed: seed)
    case "room": self = .room(Room(&random), seed: seed)
    case "talk": self = .talk(Talk(&random), seed: seed)
    case "events": self = .events(ReturningEvents(&random), seed: seed)
    case "returning": self = .returning(Returning(&random), seed: seed)
    case "requests": self = .requests(Requests(&random), seed: seed)
    case "visits": self = .visits(Visits(&random), seed: seed)
    case "feed": self = .feed(Feed(&further), seed: seed)
    default: self = .chain(Chain(&random), seed: seed)
    }
  }

  var seed: UInt64 {
    switch self {
    case .chain(_, let seed), .exchange(_, let seed), .room(_, let seed), .talk(_, let seed), .events(_, let seed),
      .returning(_, let seed), .requests(_, let seed), .visits(_, let seed), .feed(_, let seed):
      seed
    }
  }

  var world: any World {
    switch self {
    case .chain(let world, _): world
    case .exchange(let world, _): world
    case .room(let world, _): world
    case .talk(let world, _): world
    case .events(let world, _): world
    case .returning(let world, _): world
    case .requests(let world, _): world
    case .visits(let world, _): world
    case .feed(let world, _): world
    }
  }

  /// Plans with something less.
  var simpler: [Plan] {
    switch self {
    case .chain(let world, let seed): world.simpler.map { .chain($0, seed: seed) }
    case .exchange(let world, let seed): world.simpler.map { .exchange($0, seed: seed) }
    case .room(let world, let seed): world.simpler.map { .room($0, seed: seed) }
    case .talk(let world, let seed): world.simpler.map { .talk($0, seed: seed) }
    case .events(let world, let seed): world.simpler.map { .events($0, seed: seed) }
    case .returning(let world, let seed): world.simpler.map { .returning($0, seed: seed) }
    case .requests(let world, let seed): world.simpler.map { .requests($0, seed: seed) }
    case .visits(let world, let seed): world.simpler.map { .visits($0, seed: seed) }
    case .feed(let world, let seed): world.simpler.map { .feed($0, seed: seed) }
    }
  }

  // MARK: written down

  init(contentsOf path: String) throws {
    self = try JSONDecoder().decode(Plan.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
  }

  /// The plans of a folder, by the names of their files.
  static func all(in folder: String) throws -> [(name: String, plan: Plan)] {
    try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".json") }.sorted().map {
      ($0, try Plan(contentsOf: folder + "/" + $0))
    }
  }

  var json: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}

extension Plan: CustomStringConvertible {
  var description: String { "seed \(seed): \(world)" }
}
