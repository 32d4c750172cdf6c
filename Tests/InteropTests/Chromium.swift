import Foundation
import Sluice

/// A browser without a window, driven through its DevTools protocol: over a WebSocket, which is ours.
final class Chromium: Sendable {
  private let process: ChildProcess
  private let devTools: WebSocket
  private let ids = Counter()

  private actor Counter {
    private var last = 0
    func next() -> Int {
      last += 1
      return last
    }
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Runs `body` with a browser that knows nothing of any other run.
  /// - Parameter options: Further options of its command line.
  static func run(_ options: String = "", _ body: (Chromium) async throws -> Void) async throws {
    let profile = FileManager.default.temporaryDirectory.appendingPathComponent("sluice-chromium-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: profile) }
    // Its standard error is where it says the address of its tools.
    let command =
      "exec timeout --foreground 300 chromium --headless=new --no-sandbox --disable-gpu --no-first-run --remote-debugging-port=0 "
      + "--user-data-dir='\(profile.path)' \(options) about:blank 2>&1"
    let process = try await ChildProcess.spawn(["/bin/sh", "-c", command], environment: Repository.environment)
    let result: Result<Void, any Error>
    do { result = .success(try await run(process, body)) } catch { result = .failure(error) }
    process.send(.terminate)
    // Its profile can go when it has.
    _ = try? await process.waitForExit()
    try result.get()
  }

  private static func run(_ process: ChildProcess, _ body: (Chromium) async throws -> Void) async throws {
    let lines = process.lines
    while let line = try await lines.read() {
      guard let start = line.range(of: "DevTools listening on ") else { continue }
      var options = WebSocketClientOptions()
      options.connection.maxMessageSize = 64 << 20
      let devTools = try await WebSocket.connect(String(line[start.upperBound...]), options: options)
      let browser = Chromium(process: process, devTools: devTools)
      let drain = Task { while try await lines.read() != nil {} }
      defer { drain.cancel() }
      try await body(browser)
      devTools.abort(StreamError.aborted)
      return
    }
    throw Failure(description: "the browser ended before it was ready")
  }

  private init(process: ChildProcess, devTools: WebSocket) {
    self.process = process
    self.devTools = devTools
  }

  /// Opens a page in a tab of its own.
  func open(_ url: String) async throws -> Tab {
    let target = try await call("Target.createTarget", ["url": url])["targetId"] as? String ?? ""
    let session =
      try await call("Target.attachToTarget", ["targetId": target, "flatten": true])["sessionId"] as? String ?? ""
    return Tab(browser: self, target: target, session: session)
  }

  /// One call after the other; events of the browser in between are passed over.
  func call(_ method: String, _ parameters: [String: Any] = [:], session: String? = nil) async throws -> [String: Any] {
    let id = await ids.next()
    var request: [String: Any] = ["id": id, "method": method, "params": parameters]
    request["sessionId"] = session
    let text = String(decoding: try JSONSerialization.data(withJSONObject: request), as: UTF8.self)
    try await devTools.send(text)
    while let message = try await devTools.read() {
      guard let answer = try JSONSerialization.jsonObject(with: Data(Array(message.bytes))) as? [String: Any],
        answer["id"] as? Int == id
      else { continue }
      if let result = answer["result"] as? [String: Any] { return result }
      throw Failure(description: "\(method): \(message.text)")
    }
    throw Failure(description: "\(method): the browser is gone")
  }

  struct Tab: Sendable {
    let browser: Chromium
    let target: String
    let session: String

    /// The value of an expression, as JSON has it.
    /// - Throws: `Failure` with what the page threw.
    @discardableResult
    func evaluate(_ expression: String) async throws -> Any? {
      let answer = try await browser.call(
        "Runtime.evaluate", ["expression": expression, "awaitPromise": true, "returnByValue": true], session: session)
      if let thrown = answer["exceptionDetails"] { throw Failure(description: "\(expression): \(thrown)") }
      return (answer["result"] as? [String: Any])?["value"]
    }

    /// Waits until an expression is true.
    func wait(until expression: String, within limit: Duration = .seconds(20)) async throws {
      let end = ContinuousClock.now + limit
      while ContinuousClock.now < end {
        // A page that is not there yet throws.
        if (try? await evaluate(expression)) as? Bool == true { return }
        try await Task.sleep(for: .milliseconds(50))
      }
      let errors = try? await evaluate("JSON.stringify(window.pageErrors ?? [])")
      throw Failure(description: "not within \(limit): \(expression); errors of the page: \(errors ?? "unknown")")
    }

    func close() async throws { _ = try await browser.call("Target.closeTarget", ["targetId": target]) }
  }
}
