// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "sluice-in-hummingbird",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "sluice", path: "../..", traits: ["Hummingbird"]),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
  ],
  targets: [
    .executableTarget(
      name: "hummingbird-chat",
      dependencies: [
        .product(name: "Sluice", package: "sluice"), .product(name: "SluiceHummingbird", package: "sluice"),
        .product(name: "Hummingbird", package: "hummingbird"),
      ])
  ]
)
