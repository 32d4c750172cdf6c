import ArgumentParser
import Sluice
import SluiceClient
import SluiceHTTP

/// What the command line says of requests of http: and sse+http:.
struct RequestCommandOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The method of the request. Default: GET; POST with --data, or where http: is the TARGET.", valueName: "NAME"))
  var method: String?

  @Option(
    help: ArgumentHelp(
      "Send this as the body of the request; @FILE reads it from a file, @- from standard input.", valueName: "TEXT"))
  var data: String?

  func validate() throws {
    if let method, HTTPRequest.Method(rawValue: method) == nil {
      throw ValidationError("--method must be a name such as PUT, not '\(method)'.")
    }
  }

  /// - Parameter hasContent: Whether something is sent.
  func method(whereContent hasContent: Bool) -> HTTPRequest.Method {
    method.flatMap { HTTPRequest.Method(rawValue: $0) } ?? (hasContent ? .post : .get)
  }

  /// What is sent with the request; it is held, as it may have to be sent again.
  func body() async throws -> Bytes? {
    guard let data else { return nil }
    guard data.hasPrefix("@") else { return Bytes(data) }
    let path = String(data.dropFirst())
    if path == "-" { return try await StandardStream.input().collect(limit: Self.maxBodyBytes) as Bytes }
    return try await File.open(FilePath(path)).collect(limit: Self.maxBodyBytes) as Bytes
  }

  private static let maxBodyBytes = 64 << 20

  /// Opens http: as what is read, or as what is written and answers.
  /// - Parameters:
  ///   - redirects: nil for the usual.
  ///   - length: Bytes of what will be written, if that is known.
  func open(
    _ url: String, as role: EndpointOpener.Role, _ client: WebSocketClientOptions, redirects: Int?, length: Int?,
    _ diagnostics: Diagnostics
  ) async throws -> OpenEndpoint {
    var options = HTTPExchange.Options()
    options.headers = client.headers
    options.connect = client.connect
    if let redirects { options.maxRedirects = redirects }
    options.didRespond = { response in
      diagnostics.verbose("status \(response.status)")
      for field in response.headerFields { diagnostics.verbose("\(field.name): \(field.value)") }
    }
    switch role {
    case .source:
      if let body = try await body() { options.content = .bytes(body) }
      options.method = method(whereContent: data != nil)
      return .source(try await HTTPExchange.open(url, options: options))
    case .target:
      options.content = .stream(length: length)
      options.method = method(whereContent: true)
      return .bytes(try await HTTPExchange.open(url, options: options))
    }
  }
}
