// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .strictMemorySafety(),
  // Span-returning accessors (`Bytes.span`) state their lifetime.
  .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
  name: "sluice",
  // What asks for it: executors of tasks, `Mutex` and `Atomic`, `UInt128`, `AsyncSequence` with its failure's type. `Span` is had on older systems too.
  platforms: [.macOS(.v15)],
  products: [
    .library(name: "Sluice", targets: ["Sluice"]),
    .library(name: "SluiceStreams", targets: ["SluiceStreams"]),
    .library(name: "SluiceWebSocketProtocol", targets: ["SluiceWebSocketProtocol"]),
    .library(name: "SluiceCodable", targets: ["SluiceCodable"]),
    .library(name: "SluiceTesting", targets: ["SluiceTesting"]),
    .library(name: "SluiceTopics", targets: ["SluiceTopics"]),
    .library(name: "SluiceTopicsRedis", targets: ["SluiceTopicsRedis"]),
    .library(name: "SluiceTopicsSQLite", targets: ["SluiceTopicsSQLite"]),
    .library(name: "SluiceTopicsNATS", targets: ["SluiceTopicsNATS"]),
    .library(name: "SluiceTopicsConnections", targets: ["SluiceTopicsConnections"]),
    .library(name: "SluiceNIO", targets: ["SluiceNIO"]),
    .library(name: "SluiceHummingbird", targets: ["SluiceHummingbird"]),
    .library(name: "SluiceMetrics", targets: ["SluiceMetrics"]),
    .library(name: "SluiceLifecycle", targets: ["SluiceLifecycle"]),
    .executable(name: "sluice", targets: ["sluice-cli"]),
  ],
  traits: [
    .trait(name: "NIO", description: "SluiceNIO: streams and WebSockets on the channels of a SwiftNIO server."),
    .trait(
      name: "Hummingbird", description: "SluiceHummingbird: WebSockets and event streams as routes of Hummingbird 2.",
      enabledTraits: ["NIO"]),
    .trait(
      name: "Libdeflate",
      description: "Compressed messages without context takeover are inflated faster, with libdeflate."),
    .trait(name: "Metrics", description: "SluiceMetrics: what connections do, counted with swift-metrics."),
    .trait(name: "NATS", description: "SluiceTopicsNATS: topics on NATS JetStream, with libnats."),
    .trait(name: "Redis", description: "SluiceTopicsRedis: topics on Redis, with libhiredis."),
    .trait(name: "SQLite", description: "SluiceTopicsSQLite: topics in a file, with libsqlite3."),
    .trait(name: "ServiceLifecycle", description: "SluiceLifecycle: servers as services of swift-service-lifecycle."),
  ],
  dependencies: [
    // Deque for queues of chunks, Heap for timers.
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    // Request, response and field types that the server ecosystem shares.
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    // FilePath in the file API.
    .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
    // A server's errors go to the application's log.
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    // Each with the trait of its name only.
    .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.34.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    // The command line tool only.
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
  ],
  targets: [
    // The event loop (libuv1-dev): files, processes, names, signals, and the errors' names.
    .systemLibrary(
      name: "CSluiceUV", pkgConfig: "libuv",
      providers: [.apt(["libuv1-dev"]), .brew(["libuv"])]),
    // The system's calls for sockets, descriptors and processes; and what Swift's runtime and libdispatch have beyond their modules. No libraries.
    .systemLibrary(name: "CSluiceSystem"),
    .systemLibrary(name: "CSluiceRuntime"),
    // Masking in the processor's widest vectors: no library, only code that Swift can't be told to compile for a newer processor.
    .systemLibrary(name: "CSluiceVector"),
    // Compression of messages and of event streams (zlib1g-dev).
    .systemLibrary(
      name: "CSluiceZlib", pkgConfig: "zlib",
      providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
    // Whole compressed messages, faster than with zlib (libdeflate-dev), with the trait Libdeflate only.
    .systemLibrary(name: "CSluiceLibdeflate", providers: [.apt(["libdeflate-dev"]), .brew(["libdeflate"])]),
    .target(
      name: "SluiceStreams",
      dependencies: [
        "CSluiceRuntime",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HeapModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    .target(
      name: "SluiceIO",
      dependencies: [
        "SluiceStreams", "CSluiceUV", "CSluiceSystem", "CSluiceRuntime",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    // TLS (libssl-dev, OpenSSL 3).
    .systemLibrary(
      name: "CSluiceOpenSSL", pkgConfig: "openssl",
      providers: [.apt(["libssl-dev"]), .brew(["openssl@3"])]),
    .target(
      name: "SluiceTLS",
      dependencies: [
        "SluiceStreams", "CSluiceOpenSSL",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    .target(
      name: "SluiceHTTP",
      dependencies: ["SluiceStreams", .product(name: "HTTPTypes", package: "swift-http-types")],
      swiftSettings: settings),
    // Compressed bytes, raw for WebSockets and as gzip for HTTP.
    .target(
      name: "SluiceZlib",
      dependencies: [
        "SluiceStreams", "CSluiceZlib", .target(name: "CSluiceLibdeflate", condition: .when(traits: ["Libdeflate"])),
      ],
      swiftSettings: settings),
    .target(
      name: "SluiceWebSocketProtocol",
      dependencies: [
        "SluiceStreams", "SluiceHTTP", "SluiceZlib", "CSluiceVector",
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ],
      swiftSettings: settings),
    // WebSockets over any byte stream: no sockets, no TLS.
    .target(
      name: "SluiceWebSocket",
      dependencies: [
        "SluiceStreams", "SluiceHTTP", "SluiceWebSocketProtocol",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    // Event streams over any byte stream: parsing, and a server's side.
    .target(
      name: "SluiceEventSource",
      dependencies: [
        "SluiceStreams", "SluiceHTTP", "SluiceZlib",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    // The way out: to an origin through proxies and TLS, and the clients of WebSockets and event streams on it.
    .target(
      name: "SluiceClient",
      dependencies: [
        "SluiceStreams", "SluiceIO", "SluiceTLS", "SluiceHTTP", "SluiceZlib", "SluiceWebSocketProtocol",
        "SluiceWebSocket", "SluiceEventSource",
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ],
      swiftSettings: settings),
    // The way in: listening sockets, and WebSockets, event streams, files and answers on them, by themselves or side by side.
    .target(
      name: "SluiceServer",
      dependencies: [
        "SluiceStreams", "SluiceIO", "SluiceTLS", "SluiceHTTP", "SluiceWebSocketProtocol", "SluiceWebSocket",
        "SluiceEventSource",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    // RESP's parser (libhiredis-dev), with the trait Redis only.
    .systemLibrary(name: "CSluiceHiredis", providers: [.apt(["libhiredis-dev"]), .brew(["hiredis"])]),
    // A database in a file (libsqlite3-dev), with the trait SQLite only.
    .systemLibrary(name: "CSluiceSQLite", providers: [.apt(["libsqlite3-dev"]), .brew(["sqlite"])]),
    // NATS' client (libnats-dev), with the trait NATS only.
    .systemLibrary(name: "CSluiceNATS", providers: [.apt(["libnats-dev"]), .brew(["cnats"])]),
    // Logs with names and positions, for many readers: the contract, the ring, and the engine in memory.
    .target(
      name: "SluiceTopics",
      dependencies: ["SluiceStreams", .product(name: "DequeModule", package: "swift-collections")],
      swiftSettings: settings),
    // Topics into WebSockets and event streams, and back.
    .target(
      name: "SluiceTopicsConnections",
      dependencies: [
        "SluiceTopics", "SluiceStreams", "SluiceHTTP", "SluiceWebSocketProtocol", "SluiceWebSocket",
        "SluiceEventSource",
      ],
      swiftSettings: settings),
    // Empty without the trait Redis.
    .target(
      name: "SluiceTopicsRedis",
      dependencies: [
        "SluiceTopics", "SluiceStreams", "SluiceHTTP", "SluiceIO", "SluiceTLS", "SluiceClient",
        .target(name: "CSluiceHiredis", condition: .when(traits: ["Redis"])),
        .product(name: "DequeModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    // Empty without the trait SQLite.
    .target(
      name: "SluiceTopicsSQLite",
      dependencies: [
        "SluiceTopics", "SluiceStreams", .target(name: "CSluiceSQLite", condition: .when(traits: ["SQLite"])),
      ],
      swiftSettings: settings),
    // Empty without the trait NATS.
    .target(
      name: "SluiceTopicsNATS",
      dependencies: [
        "SluiceTopics", "SluiceStreams", "SluiceHTTP",
        .target(name: "CSluiceNATS", condition: .when(traits: ["NATS"])),
        .product(name: "DequeModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    // Empty without the trait NIO.
    .target(
      name: "SluiceNIO",
      dependencies: [
        "SluiceStreams", "SluiceHTTP", "SluiceWebSocket", "SluiceWebSocketProtocol", "SluiceEventSource",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio", condition: .when(traits: ["NIO"])),
        .product(name: "NIOHTTP1", package: "swift-nio", condition: .when(traits: ["NIO"])),
      ],
      swiftSettings: settings),
    // Empty without the trait Hummingbird.
    .target(
      name: "SluiceHummingbird",
      dependencies: [
        "SluiceStreams", "SluiceHTTP", "SluiceWebSocket", "SluiceWebSocketProtocol", "SluiceEventSource", "SluiceNIO",
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Hummingbird", package: "hummingbird", condition: .when(traits: ["Hummingbird"])),
        .product(name: "HummingbirdCore", package: "hummingbird", condition: .when(traits: ["Hummingbird"])),
        .product(name: "NIOCore", package: "swift-nio", condition: .when(traits: ["Hummingbird"])),
        .product(name: "NIOHTTP1", package: "swift-nio", condition: .when(traits: ["Hummingbird"])),
        .product(name: "NIOTLS", package: "swift-nio", condition: .when(traits: ["Hummingbird"])),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras", condition: .when(traits: ["Hummingbird"])),
        .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras", condition: .when(traits: ["Hummingbird"])),
      ],
      swiftSettings: settings),
    // Empty without the trait Metrics.
    .target(
      name: "SluiceMetrics",
      dependencies: [
        "SluiceWebSocket", "SluiceWebSocketProtocol", "SluiceEventSource", "SluiceServer",
        .product(name: "CoreMetrics", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
      ],
      swiftSettings: settings),
    // Empty without the trait ServiceLifecycle.
    .target(
      name: "SluiceLifecycle",
      dependencies: [
        "SluiceWebSocket", "SluiceEventSource", "SluiceServer", .product(name: "Logging", package: "swift-log"),
        .product(
          name: "ServiceLifecycle", package: "swift-service-lifecycle",
          condition: .when(traits: ["ServiceLifecycle"])),
      ],
      swiftSettings: settings),
    .target(
      name: "Sluice",
      dependencies: [
        "SluiceStreams", "SluiceIO", "SluiceTLS", "SluiceHTTP", "SluiceWebSocketProtocol",
        "SluiceWebSocket", "SluiceEventSource", "SluiceClient", "SluiceServer",
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "sluice-cli",
      dependencies: [
        "Sluice", "SluiceStreams", "SluiceHTTP", "SluiceWebSocketProtocol", "SluiceWebSocket", "SluiceEventSource",
        "SluiceIO", "SluiceTLS", "SluiceClient", "SluiceServer", "SluiceTopics", "SluiceTopicsConnections",
        "SluiceTopicsRedis", "SluiceTopicsSQLite", "SluiceTopicsNATS",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
      ],
      resources: [.embedInCode("Demo/page.html")], swiftSettings: settings),
    // The README's examples, compiled with everything else.
    .executableTarget(
      name: "examples", dependencies: ["Sluice", "SluiceTopics", "SluiceTopicsConnections"], path: "Examples",
      exclude: ["NIOEcho", "HummingbirdChat", "MeteredService"],
      swiftSettings: settings),
    // Values as JSON: the one module on Foundation.
    .target(
      name: "SluiceCodable",
      dependencies: ["SluiceStreams", "SluiceWebSocketProtocol", "SluiceWebSocket", "SluiceEventSource"],
      swiftSettings: settings),
    // The loop with virtual time and the network in memory that drive the contract's tests, and a user's.
    .target(
      name: "SluiceTesting",
      dependencies: [
        "SluiceStreams", "SluiceWebSocket", .product(name: "DequeModule", package: "swift-collections"),
      ],
      swiftSettings: settings),
    // What only the tests here need beside it: certificates, files, processor time.
    .target(
      name: "SluiceTestSupport",
      dependencies: [
        "SluiceTesting", "SluiceStreams", "SluiceIO", "SluiceTLS",
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      exclude: ["Certificates/make"], swiftSettings: settings),
    // The contract's tests, with the trait NIO on its channels too.
    .testTarget(
      name: "SluiceStreamsTests",
      dependencies: [
        "SluiceStreams", "SluiceIO", "SluiceTLS", "SluiceNIO", "SluiceTestSupport",
        .product(name: "SystemPackage", package: "swift-system"),
        .product(name: "NIOPosix", package: "swift-nio", condition: .when(traits: ["NIO"])),
      ],
      swiftSettings: settings),
    // The contract of topics on each engine.
    .testTarget(
      name: "SluiceTopicsTests",
      dependencies: [
        "Sluice", "SluiceTopics", "SluiceTopicsConnections", "SluiceTopicsRedis", "SluiceTopicsSQLite",
        "SluiceTopicsNATS", "SluiceStreams", "SluiceIO", "SluiceTestSupport", "topics-server",
      ],
      exclude: ["Server"], swiftSettings: settings),
    // Of which two stand on one Redis there, or on one file.
    .executableTarget(
      name: "topics-server",
      dependencies: [
        "Sluice", "SluiceTopics", "SluiceTopicsConnections", "SluiceTopicsRedis", "SluiceTopicsSQLite",
      ],
      path: "Tests/SluiceTopicsTests/Server", swiftSettings: settings),
    // Empty without the trait NIO.
    .testTarget(
      name: "SluiceNIOTests",
      dependencies: [
        "Sluice", "SluiceNIO",
        .product(name: "NIOPosix", package: "swift-nio", condition: .when(traits: ["NIO"])),
        .product(name: "NIOHTTP1", package: "swift-nio", condition: .when(traits: ["NIO"])),
      ],
      swiftSettings: settings),
    // Empty without the trait Hummingbird.
    .testTarget(
      name: "SluiceHummingbirdTests",
      dependencies: [
        "Sluice", "SluiceHummingbird", .product(name: "Logging", package: "swift-log"),
        .product(name: "Hummingbird", package: "hummingbird", condition: .when(traits: ["Hummingbird"])),
        .product(
          name: "ServiceLifecycle", package: "swift-service-lifecycle", condition: .when(traits: ["Hummingbird"])),
      ],
      swiftSettings: settings),
    .testTarget(name: "SluiceHTTPTests", dependencies: ["SluiceHTTP", "SluiceStreams"], swiftSettings: settings),
    .testTarget(
      name: "SluiceIOTests", dependencies: ["SluiceIO", "SluiceStreams", "SluiceTestSupport"], swiftSettings: settings),
    .testTarget(
      name: "SluiceEventSourceTests",
      dependencies: ["Sluice", "SluiceEventSource", "SluiceHTTP", "SluiceZlib", "SluiceTestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "SluiceServerTests",
      dependencies: [
        "Sluice", "SluiceServer", "SluiceTestSupport", .product(name: "Logging", package: "swift-log"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "SluiceClientTests",
      dependencies: [
        "SluiceClient", "SluiceEventSource", "SluiceHTTP", "SluiceIO", "SluiceStreams", "SluiceTLS", "SluiceWebSocket",
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "SluiceTLSTests",
      dependencies: [
        "SluiceTLS", "SluiceClient", "SluiceIO", "SluiceStreams", "SluiceTestSupport",
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "SluiceWebSocketTests",
      dependencies: [
        "Sluice", "SluiceIO", "SluiceTestSupport", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "SluiceCodableTests", dependencies: ["Sluice", "SluiceCodable", "SluiceTesting"], swiftSettings: settings),
    .testTarget(name: "SluiceTestingTests", dependencies: ["Sluice", "SluiceTesting"], swiftSettings: settings),
    // Empty without the trait Metrics.
    .testTarget(
      name: "SluiceMetricsTests",
      dependencies: [
        "Sluice", "SluiceMetrics",
        .product(name: "MetricsTestKit", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
      ],
      swiftSettings: settings),
    // Empty without the trait ServiceLifecycle.
    .testTarget(
      name: "SluiceLifecycleTests",
      dependencies: [
        "Sluice", "SluiceLifecycle", .product(name: "Logging", package: "swift-log"),
        .product(
          name: "ServiceLifecycle", package: "swift-service-lifecycle",
          condition: .when(traits: ["ServiceLifecycle"])),
      ],
      swiftSettings: settings),
    .testTarget(name: "SluiceZlibTests", dependencies: ["SluiceZlib", "SluiceStreams"], swiftSettings: settings),
    // The list of attacks, on the real server in a process of its own and on simulated networks.
    .executableTarget(
      name: "attacked-server",
      dependencies: ["Sluice", .product(name: "Logging", package: "swift-log")],
      path: "Tests/AttackTests/Server", swiftSettings: settings),
    .testTarget(
      name: "AttackTests",
      dependencies: [
        "Sluice", "SluiceWebSocketProtocol", "SluiceTestSupport", "attacked-server",
        .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "Logging", package: "swift-log"),
      ],
      exclude: ["Cases", "Server"], swiftSettings: settings),
    // Whole systems on virtual time, by seeds; `scripts/simulate` runs it.
    .executableTarget(
      name: "simulate",
      dependencies: [
        "Sluice", "SluiceStreams", "SluiceHTTP", "SluiceTLS", "SluiceWebSocket", "SluiceWebSocketProtocol",
        "SluiceEventSource", "SluiceClient", "SluiceServer", "SluiceTesting", "SluiceTestSupport",
        .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/Simulation", exclude: ["Corpus", "Faults"], swiftSettings: settings),
    // Real connections through a relay that spoils them; `scripts/soak` runs it.
    .executableTarget(
      name: "soak",
      dependencies: [
        "Sluice", "SluiceStreams", "SluiceIO", "SluiceTesting", .product(name: "Logging", package: "swift-log"),
        .product(name: "SystemPackage", package: "swift-system"),
      ],
      path: "Tests/Soak", exclude: ["soak.py"], swiftSettings: settings),
    // Random and coverage-guided inputs; `scripts/fuzz` builds it with libFuzzer.
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "SluiceStreams", "SluiceZlib", "SluiceHTTP", "SluiceWebSocketProtocol", "SluiceWebSocket", "SluiceEventSource",
        "SluiceIO", "SluiceClient", "SluiceServer", "SluiceTesting",
        .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/Fuzz", exclude: ["Corpora"], swiftSettings: settings + [.enableExperimentalFeature("Extern")]),
    // Runs the built tool, and the real peers.
    .testTarget(
      name: "InteropTests", dependencies: ["Sluice", "SluiceTestSupport"], exclude: ["Autobahn", "Peers", "Tool"],
      swiftSettings: settings),
    // What the Autobahn suite tests; `scripts/autobahn` runs both.
    .executableTarget(
      name: "autobahn-peer", dependencies: ["Sluice"], path: "Tests/InteropTests/Autobahn/Peer",
      swiftSettings: settings),
    .testTarget(
      name: "SluiceWebSocketProtocolTests", dependencies: ["SluiceWebSocketProtocol", "SluiceStreams"],
      swiftSettings: settings),
  ]
)

// SwiftPM recompiles a target when one that it names has changed. Through one between them that only re-exports it, it does not, though code and layouts
// from below are compiled in. So each target names all that is below it, and an incremental build is right.
@MainActor func dependOnAllBelow() {
  let targets = Dictionary(
    uniqueKeysWithValues: package.targets.filter { $0.type != .system }.map { ($0.name, $0) })

  func named(by target: Target) -> Set<String> {
    Set(
      target.dependencies.compactMap {
        if case .byNameItem(let name, _) = $0, targets[name] != nil { name } else { nil }
      })
  }

  func below(_ target: Target) -> Set<String> {
    let direct = named(by: target)
    return direct.union(direct.compactMap { targets[$0] }.flatMap(below))
  }

  for (target, below) in package.targets.map({ ($0, below($0)) }) {
    target.dependencies += below.subtracting(named(by: target)).sorted().map { .byNameItem(name: $0, condition: nil) }
  }
  // The same for the targets of other packages.
  package.products = package.products.map { product in
    guard let library = product as? Product.Library else { return product }
    let others = Set(library.targets.compactMap { targets[$0] }.flatMap(below)).subtracting(library.targets)
    return .library(name: library.name, type: library.type, targets: library.targets + others.sorted())
  }
}
dependOnAllBelow()
