import Testing

@Suite("The tool in TLS and through proxies", .timeLimit(.minutes(15)))
struct SecureToolTests {
  @Test(
    "its scenarios with other programs, on the release build",
    arguments: [
      "tls_streams", "failures_in_tls", "environment_proxies", "interrupted_handshakes",
      "key_updates_and_renegotiation", "alpn_and_key_log", "client_certificates", "web_sockets", "http_proxies",
      "socks_proxies", "reverse_proxy", "load_balancer", "credentials", "event_streams", "event_stream_access",
      "headers_for_whom", "tls_profile", "proxies_as_packaged",
    ])
  func scenario(name: String) async throws {
    try await runToolScenarioWithPeers(name, of: "secure.py")
  }
}
