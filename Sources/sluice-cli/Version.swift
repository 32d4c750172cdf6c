/// The version of the tool: the one place that says it. `scripts/package` and `scripts/release` read it here.
enum Version {
  static let current = "0.1.0"
}
