// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "sluice-metered-service",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "sluice", path: "../..", traits: ["Metrics", "ServiceLifecycle"]),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
  ],
  targets: [
    .executableTarget(
      name: "metered-service",
      dependencies: [
        .product(name: "Sluice", package: "sluice"), .product(name: "SluiceMetrics", package: "sluice"),
        .product(name: "SluiceLifecycle", package: "sluice"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "MetricsTestKit", package: "swift-metrics"), .product(name: "Logging", package: "swift-log"),
      ])
  ]
)
