import HTTPTypes
import SluiceStreams

/// What a command is told of the connection that it serves, as environment variables: the meta-variables of CGI (RFC 3875 §4.1), as web servers and
/// websocketd give them.
///
/// ```swift
/// try await WebSocket.serve("ws://127.0.0.1:8000") { ws in
///   var variables = await ws.cgiVariables
///   variables["ROOM"] = "blue"
///   let environment = variables.added(to: ChildProcess.inheritedEnvironment)
///   let command = try await ChildProcess.shell("./handler", environment: environment)
///   try await bridge(command, ws, framing: .lines, kind: .text)
/// }
/// ```
///
/// A field of the request becomes `HTTP_` and its name in capitals, with `_` for `-`; several of one name are one list. Left out are fields
///
/// - that would have the name of another variable, or of another field: `Proxy` (HTTP_PROXY is what programs take for their proxy's address), and
///   names with other characters than letters, digits and `-`;
/// - that hold credentials: `Authorization`, `Proxy-Authorization`.
///
/// What the client has chosen is in HTTP_…, REQUEST_URI, PATH_INFO, QUERY_STRING and SERVER_NAME. No value holds a NUL.
public struct CGIVariables: Sendable, Hashable {
  /// By name.
  public private(set) var values: [String: String] = [:]

  /// None.
  public init() {}

  /// The value of a variable; nil if it is not set. One that holds a NUL is not set.
  public subscript(name: String) -> String? {
    get { values[name] }
    set { values[name] = newValue?.utf8.contains(0) == true ? nil : newValue }
  }

  /// What a request says. `remoteAddress` and what else is of the connection itself is not in it.
  public init(_ request: HTTPRequest) {
    self["GATEWAY_INTERFACE"] = "CGI/1.1"
    self["SERVER_SOFTWARE"] = "Sluice"
    self["SERVER_PROTOCOL"] = "HTTP/1.1"
    self["REQUEST_METHOD"] = request.method.rawValue
    let target = request.path ?? "/"
    self["REQUEST_URI"] = target
    // The path is the command's own, all of it.
    self["SCRIPT_NAME"] = ""
    let (path, query) = target.utf8.divided(at: UInt8(ascii: "?")) ?? (target.wire, Substring().utf8)
    self["PATH_INFO"] = Self.decodedPath(path)
    self["QUERY_STRING"] = query.text
    if let authority = request.authority, !authority.isEmpty {
      self["HTTP_HOST"] = authority
      self["SERVER_NAME"] = Self.host(of: authority)
    }
    addFields(request.headerFields)
  }

  /// - Returns: nil if the octets that it stands for are no text.
  private static func decodedPath(_ path: WireText) -> String? {
    guard let decoded = PercentEncoding.decode(path), let text = String(validating: decoded, as: UTF8.self) else {
      return nil
    }
    // RFC 3986 §5.2.4: nothing leads above the root.
    var segments: [WireText] = []
    let all = text.wire.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst()
    for (index, segment) in all.enumerated() {
      let isDots = segment.equals(".") || segment.equals("..")
      if segment.equals("..") { _ = segments.popLast() }
      if !isDots { segments.append(segment) }
      if isDots && index == all.count - 1 { segments.append(Substring().utf8) }
    }
    return "/" + segments.map(\.text).joined(separator: "/")
  }

  /// The host without its port, where nothing in it could mean more to a shell than a name or an address does.
  private static func host(of authority: String) -> String? {
    var host = authority.wire
    if let end = host.lastIndex(of: UInt8(ascii: ":")), host[host.index(after: end)...].allSatisfy(ASCII.isDigit) {
      host = host[..<end]
    }
    let isName = host.allSatisfy { ASCII.isLetter($0) || ASCII.isDigit($0) || "-._:[]".utf8.contains($0) }
    return isName && !host.isEmpty ? host.text : nil
  }

  private mutating func addFields(_ fields: HTTPFields) {
    for field in fields {
      guard let name = Self.name(of: field.name) else { continue }
      let separator = name == "HTTP_COOKIE" ? "; " : ", "
      self[name] = values[name].map { $0 + separator + field.value } ?? field.value
    }
  }

  /// The variable of a field; nil if it has none.
  private static func name(of field: HTTPField.Name) -> String? {
    let name = field.rawName.utf8
    guard name.allSatisfy({ ASCII.isLetter($0) || ASCII.isDigit($0) || $0 == UInt8(ascii: "-") }) else { return nil }
    let capitals = name.map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : ASCII.uppercased($0) }.text
    switch capitals {
    case "CONTENT_LENGTH", "CONTENT_TYPE": return capitals
    // `Host` is the authority.
    case "PROXY", "AUTHORIZATION", "PROXY_AUTHORIZATION", "HOST": return nil
    default: return "HTTP_" + capitals
    }
  }

  /// An environment with these variables. Where they say nothing, it says nothing either: what another connection's variables, or another program's,
  /// have left in it goes.
  public func added(to environment: [String: String]) -> [String: String] {
    environment.filter { !Self.isOfConnection($0.key) }.merging(values) { $1 }
  }

  private static func isOfConnection(_ name: String) -> Bool {
    names.contains(name) || (name.utf8.begins(with: "HTTP_") && name != "HTTP_PROXY")
  }

  private static let names: Set = [
    "GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_ADDR", "SERVER_PORT",
    "REQUEST_METHOD",
    "REQUEST_URI", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING", "CONTENT_LENGTH", "CONTENT_TYPE",
    "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST", "REMOTE_USER", "REMOTE_IDENT", "AUTH_TYPE", "HTTPS", "SSL_PROTOCOL",
    "SSL_CIPHER",
    "SSL_TLS_SNI", "SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN",
  ]
}
