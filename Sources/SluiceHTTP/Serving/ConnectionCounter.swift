import HTTPTypes
import SluiceStreams
import Synchronization

/// Counts the connections of a server, in all and by address, over all of its loops.
package final class ConnectionCounter: Sendable {
  private struct Counts {
    var all = 0
    var bySite: [IPAddress: Int] = [:]
  }
  private let counts = Mutex(Counts())
  private let maxConnections: Int
  private let maxPerAddress: Int?
  private let trustedProxies: [IPNetwork]
  private let forwardedFields: ForwardedFields
  private let allowedClients: [IPNetwork]

  package init(
    maxConnections: Int, maxPerAddress: Int?, trustedProxies: [IPNetwork], forwardedFields: ForwardedFields = .either,
    allowedClients: [IPNetwork] = []
  ) {
    self.allowedClients = allowedClients
    self.forwardedFields = forwardedFields
    self.maxConnections = maxConnections
    self.maxPerAddress = maxPerAddress
    self.trustedProxies = trustedProxies
  }

  /// Counts a connection until the slot is let go of.
  /// - Parameter address: Where it comes from, nil if that does not count or is not known yet.
  func admit(_ address: IPAddress?) throws(RequestRejection) -> ConnectionSlot {
    let isFull = counts.withLock { counts in
      if counts.all >= maxConnections { return true }
      counts.all += 1
      return false
    }
    if isFull {
      throw RequestRejection(
        status: 503, reason: "too many connections (limit \(maxConnections))")
    }
    let slot = ConnectionSlot(self, address)
    try check(address)
    try slot.move(to: address, isCounted: address.map { !isTrusted($0) } ?? false)
    return slot
  }

  /// Counts a connection for where its next request comes from, if a trusted proxy has passed that on.
  func move(_ slot: ConnectionSlot, to request: HTTPRequest, from peer: IPAddress) throws(RequestRejection) {
    guard isTrusted(peer) else { return }
    let client = client(of: request, from: peer)
    try check(client)
    try slot.move(to: client, isCounted: client.map { !isTrusted($0) } ?? false)
  }

  /// Where a request comes from that a trusted proxy passed on: the last address that is not a trusted proxy's, or the first if all are. One without
  /// any is the proxy's own.
  /// - Returns: nil if a proxy did not say, or nothing that can be read.
  func client(of request: HTTPRequest, from proxy: IPAddress) -> IPAddress? {
    guard let chain = ForwardedChain(request, forwardedFields) else { return proxy }
    var farthest = proxy
    for hop in chain {
      guard let hop else { return nil }
      if !isTrusted(hop) { return hop }
      farthest = hop
    }
    return farthest
  }

  /// - Parameter address: nil if it is not known, which is none of those that may connect. A trusted proxy may: it says who asks.
  private func check(_ address: IPAddress?) throws(RequestRejection) {
    if allowedClients.isEmpty { return }
    guard let address, isTrusted(address) || allowedClients.contains(where: { $0.contains(address) }) else {
      throw RequestRejection(status: 403, reason: "this address may not connect")
    }
  }

  private func isTrusted(_ address: IPAddress) -> Bool {
    trustedProxies.contains { $0.contains(address) }
  }

  fileprivate func countSite(_ site: IPAddress) throws(RequestRejection) -> Bool {
    guard let maxPerAddress else { return false }
    let isFull = counts.withLock { counts in
      if counts.bySite[site, default: 0] >= maxPerAddress { return true }
      counts.bySite[site, default: 0] += 1
      return false
    }
    if isFull {
      throw RequestRejection(
        status: 429, reason: "too many connections from this address (limit \(maxPerAddress))")
    }
    return true
  }

  fileprivate func release() { counts.withLock { $0.all -= 1 } }

  fileprivate func releaseSite(_ site: IPAddress) {
    counts.withLock { counts in
      guard let count = counts.bySite[site] else { return }
      counts.bySite[site] = count == 1 ? nil : count - 1
    }
  }
}

/// One connection's place among those that a server takes; free again when nobody holds it.
package final class ConnectionSlot: @unchecked Sendable {  // changed on the connection's loop only
  private let counter: ConnectionCounter
  /// Where the connection comes from, as far as that is known and to be believed.
  package private(set) var address: IPAddress?
  /// Whether it is counted for the site of its address.
  private var isSiteCounted = false
  /// nil once a `HeldSlot` has it.
  private var count: CountedConnection?

  fileprivate init(_ counter: ConnectionCounter, _ address: IPAddress?) {
    self.counter = counter
    self.address = address
    count = CountedConnection(counter: counter)
  }

  private var site: IPAddress? { isSiteCounted ? address?.site : nil }

  /// The connection is of another address from here on.
  /// - Parameter isCounted: Whether it counts among those of that address' site: it does not for a proxy's.
  fileprivate func move(to address: IPAddress?, isCounted: Bool) throws(RequestRejection) {
    let (next, last) = (isCounted ? address?.site : nil, site)
    if next != last {
      let isSiteCounted = if let next { try counter.countSite(next) } else { false }
      if let last { counter.releaseSite(last) }
      self.isSiteCounted = isSiteCounted
    }
    self.address = address
  }

  /// What an open connection keeps of this.
  package func held() -> HeldSlot {
    guard !isSiteCounted, let count = count.take() else { return .slot(self) }
    return .counted(count)
  }

  deinit {
    if let site { counter.releaseSite(site) }
  }
}

/// That a connection is counted, until this ends.
package struct CountedConnection: ~Copyable {
  fileprivate let counter: ConnectionCounter

  deinit { counter.release() }
}

/// What an open connection keeps of its slot: nothing but that it is counted, where it is not counted for its address too.
package enum HeldSlot: ~Copyable {
  case slot(ConnectionSlot)
  case counted(CountedConnection)
}

/// How a connection is counted: when it is accepted, and anew with each request for which a trusted proxy says where it comes from.
package struct Admission {
  package let counter: ConnectionCounter
  package let peer: IPAddress?
  package private(set) var slot: ConnectionSlot?

  package init(counter: ConnectionCounter, peer: IPAddress?) {
    self.counter = counter
    self.peer = peer
  }

  package mutating func enter() throws(RequestRejection) {
    if slot == nil { slot = try counter.admit(peer) }
  }

  package func check(_ request: HTTPRequest) throws(RequestRejection) {
    if let peer, let slot { try counter.move(slot, to: request, from: peer) }
  }
}
