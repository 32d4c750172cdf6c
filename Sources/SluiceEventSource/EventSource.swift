import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// Server-sent events (HTML standard, §9.2): a server's stream of events to a client, over HTTP.
public enum EventSource {
  /// Whether a request asks for an event stream: GET, and `text/event-stream` among what is accepted.
  public static func isEventSource(_ request: HTTPRequest) -> Bool {
    request.method == .get && accepts(request, exactly: true)
  }

  /// Whether `Accept` (RFC 9110 §12.5.1) allows an event stream: what names it most exactly counts.
  /// - Parameter exactly: Whether it must be named, so that `*/*` or nothing is not enough.
  static func accepts(_ request: HTTPRequest, exactly: Bool) -> Bool {
    let values = request.headerFields[values: .accept]
    if values.isEmpty { return !exactly }
    let ranges = weighted(values)
    for name in exactly ? ["text/event-stream"] : ["text/event-stream", "text/*", "*/*"] {
      let qualities = ranges.filter { $0.name == name }.map(\.quality)
      if let best = qualities.max() { return best > 0 }
    }
    return false
  }

  /// Whether `Accept-Encoding` (RFC 9110 §12.5.3) allows gzip.
  static func acceptsGzip(_ request: HTTPRequest) -> Bool {
    weighted(request.headerFields[values: .acceptEncoding]).contains {
      ($0.name == "gzip" || $0.name == "x-gzip") && $0.quality > 0
    }
  }

  /// §12.4.2: 0 or 1 with up to three digits behind a point.
  private static func weight(_ text: WireText) -> Double? {
    guard text.count <= 5, text.allSatisfy({ ASCII.isDigit($0) || $0 == UInt8(ascii: ".") }) else { return nil }
    return Double(text.text)
  }

  /// The elements of a list without their parameters, in lower case, and the weight of each (RFC 9110 §12.4.2), 1 where there is none. A weight
  /// that is no number refuses.
  private static func weighted(_ values: [String]) -> [(name: String, quality: Double)] {
    values.listElements.map { element in
      let parts = element.split(outsideQuotes: UInt8(ascii: ";")).map(\.trimmingBlanks)
      let weights = parts.dropFirst().compactMap { $0.divided(at: UInt8(ascii: "=")) }.filter {
        $0.before.equalsIgnoringCase("q")
      }
      return (parts[0].text.lowercasedASCII, weights.last.map { weight($0.behind) ?? 0 } ?? 1)
    }
  }
}
