import ArgumentParser
import Sluice
import SluiceIO

/// What the command line says of load balancers in front of a listening endpoint.
struct LoadBalancerOptions: ParsableArguments {
  @Option(
    name: .customLong("proxy-protocol-from"),
    help: ArgumentHelp(
      "As a server, expect the PROXY protocol (version 1 or 2) from load balancers at this address or network, such as 10.0.0.0/8, and from no other clients; may be repeated.",
      valueName: "ADDRESS[/BITS]"))
  var networks: [IPNetwork] = []

  /// Reads what a load balancer says of a connection that was just accepted, if it comes from one.
  /// - Returns: where the connection comes from; nil if nobody says so.
  /// - Throws: `ProxyProtocolError` if a load balancer says nothing, or not as it should. The connection is cut then.
  func origin(of socket: SocketStream) async throws -> IPAddress? {
    let peer = try await socket.loop.run { socket.peerAddress?.ipAddress }
    guard let peer, networks.contains(where: { $0.contains(peer) }) else { return peer }
    return try await ProxyProtocol.read(from: socket) ?? peer
  }
}

extension IPNetwork: ExpressibleByArgument {
  public init?(argument: String) { self.init(argument) }
}
