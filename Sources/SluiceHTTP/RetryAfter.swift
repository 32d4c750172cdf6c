import HTTPTypes
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

extension HTTPFields {
  /// The time that `Retry-After` asks for (RFC 9110 §10.2.3), in seconds or as a date; zero for a date that has passed.
  /// - Parameter now: Seconds since 1970.
  /// - Returns: nil if there is none, or it can't be parsed.
  package func retryAfter(now: Int = time(nil)) -> Duration? {
    // Of a singleton that is repeated only one and the same value has a meaning.
    let values = Set(self[values: .retryAfter])
    guard values.count == 1, let value = values.first, !value.isEmpty else { return nil }
    if value.utf8.allSatisfy(ASCII.isDigit) {
      return .seconds(Swift.min(value.utf8.decimal ?? .max, Self.longestDelay))
    }
    return HTTPDate.parse(value, now: now).map { .seconds(Swift.min(Swift.max($0 - now, 0), Self.longestDelay)) }
  }

  /// Seconds, a century: callers have bounds of their own.
  private static let longestDelay = 100 * 366 * 86_400
}
