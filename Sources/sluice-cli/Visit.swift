import Sluice
import SluiceHTTP
import SluiceIO
import SluiceStreams

/// A connection of a server, as its target is told of it.
struct Visit: Sendable {
  let endpoint: OpenEndpoint
  private let connection: Connection
  /// Its place among those that are served, where the tool counts these itself.
  private let slot: ConnectionSlot?

  private enum Connection: Sendable {
    case webSocket(WebSocket)
    case socket(SocketStream, origin: IPAddress?)
    case secure(TLSStream, origin: IPAddress?)
    case datagrams(SocketAddress?)
    case packets
  }

  init(_ socket: WebSocket) {
    endpoint = .messages(.socket(socket))
    connection = .webSocket(socket)
    slot = nil
  }

  /// - Parameter origin: Where it comes from, if a load balancer says so.
  init(_ socket: SocketStream, from origin: IPAddress? = nil, _ slot: ConnectionSlot?) {
    endpoint = .bytes(socket)
    connection = .socket(socket, origin: origin)
    self.slot = slot
  }

  init(_ stream: TLSStream, from origin: IPAddress?, _ slot: ConnectionSlot?) {
    endpoint = .bytes(stream)
    connection = .secure(stream, origin: origin)
    self.slot = slot
  }

  init(_ datagrams: DatagramSession) {
    endpoint = .messages(.other(datagrams))
    connection = .datagrams(datagrams.peer.socketAddress)
    slot = nil
  }

  init(_ packets: PacketStream, _ slot: ConnectionSlot?) {
    endpoint = .messages(.other(packets))
    connection = .packets
    self.slot = slot
  }

  /// As it is connected to what was opened for it: the user of a terminal says more than what is typed.
  func endpoint(facing opened: OpenEndpoint) -> OpenEndpoint {
    guard case .webSocket(let socket) = connection, socket.protocol == TerminalProtocol.name,
      case .bytes(let stream) = opened, let child = stream as? ChildProcess
    else { return endpoint }
    return .bytes(TerminalUser(socket) { child.resize($0) })
  }

  /// Where it lives: what is connected to it passes fastest on the same loop.
  var loop: UVLoop {
    let loop: any Loop =
      switch connection {
      case .webSocket(let socket): socket.loop
      case .socket(let socket, _): socket.loop
      case .secure(let stream, _): stream.loop
      case .datagrams, .packets: UVLoop.shared
      }
    return loop as? UVLoop ?? .shared
  }

  /// What a command that serves it is told, gathered when there is one.
  var variables: CGIVariables {
    get async {
      switch connection {
      case .webSocket(let socket):
        var variables = await socket.cgiVariables
        for (name, value) in socket.parameters { variables[Route.variable(name)] = value }
        return variables
      case .socket(let socket, let origin): return await socket.cgiVariables(from: origin)
      case .datagrams(let peer):
        var variables = CGIVariables()
        if let peer {
          variables["REMOTE_ADDR"] = "\(peer.ipAddress)"
          variables["REMOTE_PORT"] = "\(peer.port)"
        }
        return variables
      case .packets: return CGIVariables()
      case .secure(let stream, let origin): return await stream.cgiVariables(from: origin)
      }
    }
  }

  /// What stands in its path for the names of its route.
  var parameters: [String: String] { if case .webSocket(let socket) = connection { socket.parameters } else { [:] } }

  /// The path and query that it has asked for.
  var requestTarget: String? {
    guard case .webSocket(let socket) = connection else { return nil }
    return socket.path + (socket.query.map { "?" + $0 } ?? "")
  }
}
