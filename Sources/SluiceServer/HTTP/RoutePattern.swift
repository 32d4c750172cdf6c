import SluiceHTTP
import SluiceStreams

/// The paths that a route is for: segments that are written out or stand for any (`{name}`), and perhaps everything below them (`/*`).
package struct RoutePattern: Sendable {
  private enum Segment: Sendable {
    /// In the spelling of `RequestPath`.
    case literal(String)
    case parameter(String)
  }
  private let segments: [Segment]
  private let hasBelow: Bool

  /// What a path says of a request.
  package struct Match {
    /// Decoded.
    package var parameters: [String: String] = [:]
    /// What the `*` stands for, in the spelling of `RequestPath`; empty without one.
    package var below = ""
  }

  /// - Parameter path: Its first slash may be missing.
  package init(_ path: String) {
    let text = path.utf8.begins(with: "/") ? path.wire.dropFirst() : path.wire
    var written = text.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    hasBelow = written.last?.equals("*") ?? false
    if hasBelow { written.removeLast() }
    segments = written.map { segment in
      if let name = Self.parameterName(segment) { return .parameter(name) }
      return .literal(RequestPath.encoded(PercentEncoding.decode(segment) ?? Array(segment)))
    }
  }

  /// What stands in braces.
  package var parameterNames: Set<String> {
    Set(segments.compactMap { if case .parameter(let name) = $0 { name } else { nil } })
  }

  private static func parameterName(_ segment: WireText) -> String? {
    guard segment.first == UInt8(ascii: "{"), segment.last == UInt8(ascii: "}") else { return nil }
    let name = segment.dropFirst().dropLast()
    return name.isToken ? name.text : nil
  }

  /// - Parameter path: In the spelling of `RequestPath`.
  /// - Returns: nil if the path is another. A parameter stands for one segment that is not empty, and is UTF-8 when it is decoded.
  package func match(_ path: String) -> Match? {
    guard path.utf8.begins(with: "/") else { return nil }
    var match = Match()
    var rest = path.wire.dropFirst()
    for (index, segment) in segments.enumerated() {
      let part = rest.prefix { $0 != UInt8(ascii: "/") }
      switch segment {
      case .literal(let literal): guard part.equals(literal) else { return nil }
      case .parameter(let name):
        guard !part.isEmpty, let bytes = PercentEncoding.decode(part),
          let value = String(validating: bytes, as: UTF8.self)
        else { return nil }
        match.parameters[name] = value
      }
      rest = rest[part.endIndex...]
      if index == segments.count - 1 && !hasBelow { return rest.isEmpty ? match : nil }
      guard rest.popFirst() != nil else { return nil }
    }
    match.below = rest.text
    return match
  }
}
