import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A date as HTTP writes it (RFC 9110 §5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT".
package enum HTTPDate {
  package static var now: String { text(secondsSince1970: time(nil)) }

  package static func text(secondsSince1970 seconds: Int) -> String {
    let (days, second) = seconds.quotientAndRemainder(dividingBy: 86_400)
    let (year, month, day) = date(daysSince1970: days)
    let clock = [second / 3600, second / 60 % 60, second % 60].map(twoDigits).joined(separator: ":")
    return "\(weekdays[(days + 4) % 7]), \(twoDigits(day)) \(months[month]) \(year) \(clock) GMT"
  }

  /// The Gregorian date, counted in years that begin in March: the leap day is their last.
  /// - Returns: The month counts from 0.
  package static func date(daysSince1970 days: Int) -> (year: Int, month: Int, day: Int) {
    let dayOfEra = days + 719_468
    let (era, day) = dayOfEra.quotientAndRemainder(dividingBy: 146_097)
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365
    let dayOfYear = day - (365 * year + year / 4 - year / 100)
    let month = (5 * dayOfYear + 2) / 153
    let dayOfMonth = dayOfYear - (153 * month + 2) / 5 + 1
    return (year + era * 400 + (month >= 10 ? 1 : 0), (month + 2) % 12, dayOfMonth)
  }

  private static func twoDigits(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

  private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  /// Reads a date in one of the three forms that a recipient must take: the one above, "Sunday, 06-Nov-94 08:49:37 GMT" and
  /// "Sun Nov  6 08:49:37 1994". The name of the day is not compared with the date.
  /// - Parameter now: Seconds since 1970, for a year of two digits, which is never more than 50 years ahead.
  /// - Returns: Seconds since 1970; nil if it is not a date.
  package static func parse(_ text: String, now: Int = time(nil)) -> Int? {
    let words = text.wire.split(separator: 0x20)
    switch words.count {
    case 6:
      guard words[5].equals("GMT"), words[0].ends(with: ",") else { return nil }
      return seconds(day: words[1], month: words[2], year: number(words[3], digits: 4...4), clock: words[4])
    case 5:
      return seconds(day: words[2], month: words[1], year: number(words[4], digits: 4...4), clock: words[3])
    case 4:
      let date = words[1].split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
      guard words[3].equals("GMT"), words[0].ends(with: ","), date.count == 3,
        let year = number(date[2], digits: 2...2)
      else { return nil }
      let thisYear = Self.date(daysSince1970: now / 86_400).year
      var full = thisYear / 100 * 100 + year
      if full > thisYear + 50 { full -= 100 }
      return seconds(day: date[0], month: date[1], year: full, clock: words[2])
    default: return nil
    }
  }

  private static func seconds(day: WireText, month: WireText, year: Int?, clock: WireText) -> Int? {
    let parts = clock.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    guard let day = number(day, digits: 1...2), (1...31).contains(day), let year,
      let month = months.firstIndex(where: { month.equals($0) }), parts.count == 3,
      let hour = number(parts[0], digits: 2...2), let minute = number(parts[1], digits: 2...2),
      // 60 is a leap second.
      let second = number(parts[2], digits: 2...2), hour < 24, minute < 60, second <= 60
    else { return nil }
    return ((days(year: year, month: month, day: day) * 24 + hour) * 60 + minute) * 60 + second
  }

  /// The inverse of `date`.
  private static func days(year: Int, month: Int, day: Int) -> Int {
    let year = month < 2 ? year - 1 : year
    let era = year / 400
    let yearOfEra = year % 400
    let dayOfYear = (153 * ((month + 10) % 12) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private static func number(_ text: WireText, digits: ClosedRange<Int>) -> Int? {
    digits.contains(text.count) ? text.decimal : nil
  }
}
