// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that SwiftNIO is built only where it is measured.
let package = Package(
  name: "sluice-nio-benchmarks",
  platforms: [.macOS(.v26)],
  dependencies: [
    .package(name: "sluice", path: "../..", traits: ["NIO"]),
    .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
  ],
  targets: [
    .executableTarget(
      name: "nio-echo-server",
      dependencies: [
        .product(name: "Sluice", package: "sluice"), .product(name: "SluiceNIO", package: "sluice"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOWebSocket", package: "swift-nio"),
      ])
  ]
)
