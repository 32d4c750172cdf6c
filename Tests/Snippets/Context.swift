// What the examples of README.md and the articles take for granted: `scripts/snippets` compiles them with this. Nothing here runs.
import Sluice
import SluiceStreams

func given<Value: ~Copyable>() -> Value { fatalError("an example is compiled, not run") }

// What the reader has at hand where an example begins.
var ws: WebSocket { given() }
var socket: SocketStream { given() }
var stream: MemoryStream<Bytes> { given() }
var connection: SocketStream { given() }
var rest: Bytes { given() }
var request: HTTPRequest { given() }

// An application's own.
struct User: Sendable {
  var name: String
}

struct Users: Sendable {
  func find(_ credentials: String?) async throws -> User? { given() }
}
let users = Users()

struct Model: Sendable {
  func answer(_ question: Bytes) -> SequenceStream<String> { given() }
}
let model = Model()

actor Last {
  var id: String?
  func remember(_ text: String) { id = text }
}
let last = Last()

var file: File { given() }
var service: SocketStream { given() }
