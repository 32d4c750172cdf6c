extension BytesBuilder {
  /// The builder with what it holds; an empty one without memory stays.
  package mutating func move() -> BytesBuilder {
    var moved = BytesBuilder()
    swap(&moved, &self)
    return moved
  }
}

extension PolledWritableStream where Input == Bytes {
  /// Sends what a stream above has gathered in memory of its loop's `scratch` during this turn, which goes back there, and what was
  /// pushed before it.
  ///
  /// It is moved out of that stream first: the stream may be called again meanwhile, if this one fails.
  /// - Returns: whether `sendAtOnce` has taken all of it.
  @discardableResult
  package func sendGathered(_ gathered: consuming BytesBuilder, backTo scratch: ScratchBuffers) throws -> Bool {
    var gathered = gathered
    defer { scratch.give(gathered.move()) }
    if !gathered.isEmpty {
      let sent = sendAtOnce(gathered.span)
      if sent == gathered.count { return true }
      try push(gathered.lend().dropFirst(sent))
    }
    flush()
    return false
  }

  /// Sends bytes now, and queues what can't leave. A queue that has been used holds memory.
  package func send(_ bytes: consuming Bytes) throws {
    let sent = sendAtOnce(bytes.span)
    if sent == bytes.count { return }
    try push(bytes.dropFirst(sent))
    flush()
  }
}
