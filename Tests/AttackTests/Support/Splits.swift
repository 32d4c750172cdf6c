import Sluice
import SluiceTestSupport
import Testing

/// Sends bytes to an echo server over a simulated network: whole, split at each byte, and byte by byte. What comes back, to
/// the end of the connection, must always be the same.
func expectSameHoweverSplit(
  _ bytes: [UInt8], gives answer: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let loop = SimulatedLoop()
  let network = SimulatedNetwork(loop: loop)
  let differing = try await loop.simulate {
    var differing: [String] = []
    func check(_ how: String, _ pieces: [ArraySlice<UInt8>]) async throws {
      let found = try await echo(of: pieces, over: network)
      if found != answer { differing.append("\(how): \(found)") }
    }
    try await check("whole", [bytes[...]])
    try await check("byte by byte", bytes.indices.map { bytes[$0...$0] })
    for split in bytes.indices.dropFirst() { try await check("split at \(split)", [bytes[..<split], bytes[split...]]) }
    return differing
  }
  #expect(differing == [], "instead of \(answer)", sourceLocation: sourceLocation)
}

/// Each piece arrives by itself. On the network's loop.
private func echo(of pieces: [ArraySlice<UInt8>], over network: SimulatedNetwork) async throws -> [UInt8] {
  let (near, far) = network.connection()
  let serving = Task(executorPreference: network.loop) {
    let ws = try await WebSocket.accept(over: far)
    try await ws.pipe(ws)
  }
  let attacker = Attacker(socket: near)
  try await attacker.send(Attacker.handshake)
  _ = try await attacker.receiveHead()
  for piece in pieces {
    // The server may have closed at an earlier one.
    try? await near.write(Bytes(piece))
  }
  let answer = await attacker.receiveAll()
  near.abort(CancellationError())
  _ = try? await serving.value
  return answer.bytes
}

/// Sends a request head to a server in the same ways, and expects the same answer to its end.
func expectSameAnswerHoweverSplit(
  _ request: String, status: Int, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let loop = SimulatedLoop()
  let network = SimulatedNetwork(loop: loop)
  let bytes = Array(request.utf8)
  let answers = try await loop.simulate {
    var answers: Set<[UInt8]> = []
    func add(_ pieces: [ArraySlice<UInt8>]) async throws {
      let (near, far) = network.connection()
      let serving = Task(executorPreference: loop) { try await WebSocket.accept(over: far) }
      for piece in pieces { try? await near.write(Bytes(piece)) }
      answers.insert(await Attacker(socket: near).receiveAll().bytes)
      near.abort(CancellationError())
      await #expect(throws: HandshakeRejection.self) { try await serving.value }
    }
    try await add([bytes[...]])
    try await add(bytes.indices.map { bytes[$0...$0] })
    for split in bytes.indices.dropFirst() { try await add([bytes[..<split], bytes[split...]]) }
    return answers
  }
  #expect(answers.count == 1, sourceLocation: sourceLocation)
  #expect(answers.first?.starts(with: "HTTP/1.1 \(status) ".utf8) == true, sourceLocation: sourceLocation)
}
