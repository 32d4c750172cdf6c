// swift-tools-version: 6.2
import PackageDescription

// A package of its own, because it needs the traits of all engines.
let package = Package(
  name: "topics-benchmark",
  platforms: [.macOS(.v15)],
  dependencies: [.package(name: "sluice", path: "../..", traits: ["Redis", "SQLite", "NATS"])],
  targets: [
    .executableTarget(
      name: "topics-benchmark",
      dependencies: [
        .product(name: "Sluice", package: "sluice"), .product(name: "SluiceTopics", package: "sluice"),
        .product(name: "SluiceTopicsRedis", package: "sluice"),
        .product(name: "SluiceTopicsSQLite", package: "sluice"), .product(name: "SluiceTopicsNATS", package: "sluice"),
        .product(name: "SluiceTopicsConnections", package: "sluice"),
      ],
      path: "Sources")
  ]
)
