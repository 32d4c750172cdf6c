import Sluice
import Testing

@Suite("More connections than descriptors", .timeLimit(.minutes(1)))
struct DescriptorAttackTests {
  @Test(
    "peers for whom there is no descriptor wait: it costs no processor time, the log tells, and others' ends let them in"
  )
  func exhaustion() async throws {
    try await AttackedServer.run("pipe", "log=yes", descriptors: 40) { server in
      var open: [Attacker] = []
      for _ in 0..<60 { open.append(try await server.connect()) }
      #expect(try await server.nextOutput()?.contains("EMFILE") == true)
      let idle = try await server.processorTime { try await Task.sleep(for: .seconds(1)) }
      #expect(idle < .milliseconds(200), "\(idle)")
      for attacker in open[..<30] { attacker.socket.abort(StreamError.aborted) }
      // The last one has waited all the time.
      try await open[59].send(Attacker.handshake)
      #expect(try await open[59].receiveHead().hasPrefix("HTTP/1.1 101 "))
      for attacker in open[30...] { attacker.socket.abort(StreamError.aborted) }
    }
  }
}
