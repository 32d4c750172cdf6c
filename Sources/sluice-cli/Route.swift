import ArgumentParser
import Sluice

/// A path of a server, and what stands there.
struct Route: Sendable {
  let path: String
  let endpoint: Endpoint

  init(_ path: String, _ endpoint: Endpoint) throws(UsageError) {
    guard !path.contains("?") else { throw UsageError("the path '\(path)' must not have a query ('?…')") }
    self.path = path
    self.endpoint = endpoint
    let known = Set(PathParameters.names(in: path))
    if let unknown = endpoint.parameterNames.first(where: { !known.contains($0) }) {
      throw UsageError(
        "{\(unknown)} is not in the path '\(path)', so \(endpoint.name) can't use it; write it as a segment, as in /rooms/{\(unknown)}"
      )
    }
  }

  /// - Parameter text: PATH=ENDPOINT.
  init(_ text: String) throws(UsageError) {
    let (path, rest) = try PathOption.split(text, "--route", "ENDPOINT")
    try self.init(path, try Endpoint(rest))
  }

  /// A name of a path's segment, as the environment of a command has it.
  static func variable(_ name: String) -> String { "ROUTE_" + name.uppercased().replacing("-", with: "_") }
}

/// An option's value that begins with a path: PATH=….
enum PathOption {
  static func split(_ text: String, _ option: String, _ what: String) throws(UsageError) -> (String, String) {
    guard text.hasPrefix("/"), let equals = text.firstIndex(of: "=") else {
      throw UsageError("\(option) must have the form '/PATH=\(what)', not '\(text)'")
    }
    let rest = String(text[text.index(after: equals)...])
    guard !rest.isEmpty else { throw UsageError("\(option): nothing stands behind the '=' in '\(text)'") }
    return (String(text[..<equals]), rest)
  }
}

/// What the connections of a server are connected to.
struct Destinations: Sendable {
  var routes: [Route] = []
  var files: [(path: String, folder: FilePath)] = []
  var health: String?
  /// TARGET: where paths without a route go; nil if these are not served.
  var target: Endpoint?

  /// Whether requests are told apart by more than the one path of a listening endpoint.
  var haveRoutes: Bool { !routes.isEmpty || !files.isEmpty || health != nil }

  /// Whether it takes a server of HTTP that has routes.
  var areHTTP: Bool { haveRoutes || !topics.isEmpty }

  var topics: [TopicURL] { endpoints.compactMap { if case .topic(let url) = $0 { url } else { nil } } }

  var endpoints: [Endpoint] { routes.map(\.endpoint) + (target.map { [$0] } ?? []) }

  /// Those that were asked for as shared, each once.
  var shared: Set<Endpoint> {
    Set(endpoints.compactMap { if case .shared(let endpoint) = $0 { endpoint } else { nil } })
  }
}
