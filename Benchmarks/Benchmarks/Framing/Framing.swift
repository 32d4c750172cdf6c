import Benchmark
import SluiceStreams
import SluiceWebSocketProtocol

// Framing alone, without a socket: each iteration decodes or encodes about a MiB of frames.

private let sizes = [("16 B", 16), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10)]
private let key = MaskingKey(0x37, 0xFA, 0x21, 0x3D)

private func frames(of size: Int, masked: Bool, count: Int) -> Bytes {
  let payload = Bytes([UInt8](repeating: 0x61, count: size))
  var builder = BytesBuilder()
  for _ in 0..<count { encode(payload, masked: masked, into: &builder) }
  return builder.take()
}

private func encode(_ payload: Bytes, masked: Bool, into builder: inout BytesBuilder) {
  builder.append(FrameHeader(.binary, maskingKey: masked ? key : nil, payloadLength: payload.count), payload.span)
}

let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.wallClock, .throughput, .mallocCountTotal], maxDuration: .seconds(1), maxIterations: 10_000)

  for (name, size) in sizes {
    let count = max((1 << 20) / size, 1)
    for masked in [true, false] {
      let kind = masked ? "masked" : "unmasked"
      Benchmark("decode \(count) x \(name), \(kind)") { benchmark in
        let input = frames(of: size, masked: masked, count: count)
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
          var decoder = FrameDecoder(role: masked ? .server : .client)
          var input = input
          while let event = try decoder.next(in: &input) { blackHole(event) }
        }
      }
      Benchmark("encode \(count) x \(name), \(kind)") { benchmark in
        let payload = Bytes([UInt8](repeating: 0x61, count: size))
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations {
          var builder = BytesBuilder(capacity: count * (size + 14))
          for _ in 0..<count { encode(payload, masked: masked, into: &builder) }
          blackHole(builder.take())
        }
      }
    }
  }

  Benchmark("mask 256 KiB in place, 4096 times") { benchmark in
    var bytes = [UInt8](repeating: 0x61, count: 256 << 10)
    benchmark.startMeasurement()
    for _ in benchmark.scaledIterations {
      for _ in 0..<4096 {
        var span = bytes.mutableSpan
        key.apply(to: &span)
      }
      blackHole(bytes)
    }
  }
}
