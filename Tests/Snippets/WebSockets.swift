import Sluice

var options: WebSocketServerOptions {
  get { given() }
  set {}
}

struct Move: Codable, Sendable {}

struct Game: Sendable {
  func play(_ move: Move) -> Move { given() }
}
let game = Game()
