// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that what only the benchmarks need is no dependency of Sluice's users.
let package = Package(
  name: "sluice-benchmarks",
  platforms: [.macOS(.v15)],
  products: [.executable(name: "echo-server", targets: ["EchoServer"])],
  dependencies: [
    // With what makes compression faster (libdeflate-dev).
    .package(name: "sluice", path: "..", traits: ["Libdeflate"]),
    // Runs the micro-benchmarks; without its trait it needs no jemalloc.
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
  ],
  targets: [
    .executableTarget(
      name: "EchoServer", dependencies: [.product(name: "Sluice", package: "sluice")]),
    .executableTarget(
      name: "Framing",
      dependencies: [
        .product(name: "SluiceWebSocketProtocol", package: "sluice"),
        .product(name: "SluiceStreams", package: "sluice"),
        .product(name: "Benchmark", package: "benchmark"),
      ],
      path: "Benchmarks/Framing",
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
  ]
)
