import HTTPTypes
import SluiceHTTP

/// Server-sent events (HTML standard, §9.2): a server's stream of events to a client, over HTTP.
public enum EventSource {
  /// Whether a request asks for an event stream: GET, and `text/event-stream` among what is accepted.
  public static func isEventSource(_ request: HTTPRequest) -> Bool {
    request.method == .get && accepts(request, exactly: true)
  }

  /// Whether `Accept` (RFC 9110 §12.5.1) allows an event stream.
  /// - Parameter exactly: Whether it must be named, so that `*/*` or nothing is not enough.
  static func accepts(_ request: HTTPRequest, exactly: Bool) -> Bool {
    let values = request.headerFields[values: .accept]
    if values.isEmpty { return !exactly }
    let types = values.flatMap { $0.split(separator: ",") }.map { entry in
      let type = entry.prefix { $0 != ";" }.filter { $0 != " " && $0 != "\t" }.lowercased()
      // A quality of zero is a refusal.
      let isRefused =
        entry.filter { $0 != " " }.contains(";q=0") && !entry.contains(where: { ("1"..."9").contains($0) })
      return isRefused ? "" : type
    }
    return types.contains("text/event-stream") || (!exactly && (types.contains("*/*") || types.contains("text/*")))
  }

  /// Whether `Accept-Encoding` (RFC 9110 §12.5.3) allows gzip.
  static func acceptsGzip(_ request: HTTPRequest) -> Bool {
    request.headerFields[values: .acceptEncoding].flatMap { $0.split(separator: ",") }.contains { entry in
      let parts = entry.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
      guard parts.first == "gzip" || parts.first == "x-gzip" else { return false }
      return parts.dropFirst().allSatisfy { !$0.hasPrefix("q=") || (Double($0.dropFirst(2)) ?? 0) > 0 }
    }
  }
}
