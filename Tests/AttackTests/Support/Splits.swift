import Sluice
import SluiceTestSupport
import Testing

/// Sends bytes to an echo server over a simulated network: whole, split at each byte, and byte by byte. What comes back, to
/// the end of the connection, must always be the same.
func expectSameHoweverSplit(
  _ bytes: [UInt8], gives answer: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let answers = try await answersHoweverSplit(bytes)
  #expect(answers == [answer], sourceLocation: sourceLocation)
}

/// - Returns: what came back, all that was different.
func answersHoweverSplit(_ bytes: [UInt8], after handshake: String = Attacker.handshake) async throws -> Set<[UInt8]> {
  let loop = SimulatedLoop()
  let network = SimulatedNetwork(loop: loop)
  return try await loop.simulate {
    var answers: Set<[UInt8]> = []
    for pieces in splits(of: bytes) { answers.insert(try await echo(of: pieces, after: handshake, over: network)) }
    return answers
  }
}

/// Whole, byte by byte, and in two at each place.
private func splits(of bytes: [UInt8]) -> [[ArraySlice<UInt8>]] {
  [[bytes[...]], bytes.indices.map { bytes[$0...$0] }] + bytes.indices.dropFirst().map { [bytes[..<$0], bytes[$0...]] }
}

/// Each piece arrives by itself. On the network's loop.
private func echo(
  of pieces: [ArraySlice<UInt8>], after handshake: String, over network: SimulatedNetwork
) async throws -> [UInt8] {
  let (near, far) = network.connection()
  let serving = Task(executorPreference: network.loop) {
    let ws = try await WebSocket.accept(over: far)
    try await ws.pipe(ws)
  }
  let attacker = Attacker(socket: near)
  try await attacker.send(handshake)
  _ = try await attacker.receiveHead()
  for piece in pieces {
    // The server may have closed at an earlier one.
    try? await near.write(Bytes(piece))
  }
  try? await near.close()
  let answer = await attacker.receiveAll()
  near.abort(CancellationError())
  _ = try? await serving.value
  // The rest of a handshake of hixie-76.
  return handshake == Attacker.handshake || answer.bytes.count < 16 || answer.bytes[0] != 0x38
    ? answer.bytes : Array(answer.bytes.dropFirst(16))
}

/// Sends a request head to a server in the same ways, and expects the same answer to its end.
func expectSameAnswerHoweverSplit(
  _ request: String, status: Int, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let loop = SimulatedLoop()
  let network = SimulatedNetwork(loop: loop)
  let bytes = Array(request.utf8)
  let answers = try await loop.simulate {
    var answers: Set<String> = []
    func add(_ pieces: [ArraySlice<UInt8>]) async throws {
      let (near, far) = network.connection()
      let serving = Task(executorPreference: loop) { try await WebSocket.accept(over: far) }
      for piece in pieces { try? await near.write(Bytes(piece)) }
      // But for the second in which it was given.
      let answer = String(decoding: await Attacker(socket: near).receiveAll().bytes, as: UTF8.self)
      answers.insert(answer.split(separator: "\r\n").filter { !$0.hasPrefix("Date: ") }.joined(separator: "\r\n"))
      near.abort(CancellationError())
      await #expect(throws: RequestRejection.self) { try await serving.value }
    }
    for pieces in splits(of: bytes) { try await add(pieces) }
    return answers
  }
  #expect(answers.count == 1, sourceLocation: sourceLocation)
  #expect(answers.first?.hasPrefix("HTTP/1.1 \(status) ") == true, sourceLocation: sourceLocation)
}
