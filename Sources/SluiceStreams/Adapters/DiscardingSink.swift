/// Takes everything and keeps nothing: the other half of what only gives.
package struct DiscardingSink<Input: Sendable>: PolledWritableStream {
  package let loop: any Loop

  package init(on loop: any Loop) { self.loop = loop }

  package func hasRoom() throws -> Bool { true }
  package func push(_ element: consuming Input) throws {}
  package func flush() {}
  package func attachWriter(_ waker: any Waker) throws {}
  package func detachWriter() {}
  package func closeWhenFlushed(_ completion: @escaping @Sendable ((any Error)?) -> Void) { completion(nil) }
  package func abort(_ reason: any Error) {}
}
