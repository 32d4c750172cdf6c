import ArgumentParser
import Sluice
import SluiceClient

/// What the command line says of the way to a peer.
struct NetworkOptions: ParsableArguments {
  @Flag(name: [.customShort("4"), .customLong("ipv4")], help: "Connect to IPv4 addresses only.")
  var ipv4 = false

  @Flag(name: [.customShort("6"), .customLong("ipv6")], help: "Connect to IPv6 addresses only.")
  var ipv6 = false

  @Option(help: ArgumentHelp("Connect from this address of this machine.", valueName: "ADDRESS"))
  var localAddress: String?

  @Option(
    name: .customLong("resolve"),
    help: ArgumentHelp(
      "Connect to this address when HOST and PORT are asked for; may be repeated. The name is still what is requested and verified.",
      valueName: "HOST:PORT:ADDRESS"))
  var resolved: [Resolution] = []

  func validate() throws {
    if ipv4 && ipv6 { throw ValidationError("--ipv4 and --ipv6 are mutually exclusive.") }
  }

  func apply(to options: inout ConnectOptions) {
    options.tcp.family = ipv4 ? .ipv4 : ipv6 ? .ipv6 : .any
    options.tcp.localAddress = localAddress
    for resolution in resolved { options.addresses[resolution.place] = resolution.address }
  }
}

/// HOST:PORT:ADDRESS.
struct Resolution: ExpressibleByArgument, Sendable {
  /// HOST:PORT, as `ConnectOptions.addresses` has it.
  let place: String
  let address: String

  init?(argument: String) {
    let words = argument.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count == 3, !words[0].isEmpty, let port = Int(words[1]), (1...65535).contains(port) else { return nil }
    var address = words[2]
    if address.hasPrefix("["), address.hasSuffix("]") { address = address.dropFirst().dropLast() }
    guard !address.isEmpty else { return nil }
    place = "\(words[0].lowercased()):\(port)"
    self.address = String(address)
  }
}
