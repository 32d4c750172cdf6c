// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "sluice-in-nio",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "sluice", path: "../..", traits: ["NIO"]),
    .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
  ],
  targets: [
    .executableTarget(
      name: "nio-echo",
      dependencies: [
        .product(name: "Sluice", package: "sluice"), .product(name: "SluiceNIO", package: "sluice"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ])
  ]
)
