import HTTPTypes
import Testing

@testable import SluiceHTTP

@Suite("Dates and Retry-After (RFC 9110 §5.6.7, §10.2.3)")
struct HTTPDateTests {
  @Test(
    "written, and read again",
    arguments: [
      (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (3599, "Thu, 01 Jan 1970 00:59:59 GMT"),
      (3600, "Thu, 01 Jan 1970 01:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
      (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
      (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"), (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
      (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
    ])
  func dates(seconds: Int, text: String) {
    #expect(HTTPDate.text(secondsSince1970: seconds) == text)
    #expect(HTTPDate.parse(text) == seconds)
  }

  @Test("the two old forms are read; a year of two digits is at most 50 years ahead")
  func oldForms() {
    let now = 1_700_000_000  // 2023
    #expect(HTTPDate.parse("Sunday, 06-Nov-94 08:49:37 GMT", now: now) == 784_111_777)
    #expect(HTTPDate.parse("Sun Nov  6 08:49:37 1994", now: now) == 784_111_777)
    #expect(HTTPDate.parse("Thursday, 29-Feb-24 23:59:59 GMT", now: now) == 1_709_251_199)
    #expect(HTTPDate.parse("Monday, 06-Nov-73 08:49:37 GMT", now: now) == 3_277_183_777)
    #expect(HTTPDate.parse("Tuesday, 06-Nov-74 08:49:37 GMT", now: now) == 152_959_777)
  }

  @Test(
    "what is no date",
    arguments: [
      "", "x", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 32 Nov 1994 08:49:37 GMT",
      "Sun, 06 Abc 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT",
    ])
  func wrong(text: String) { #expect(HTTPDate.parse(text) == nil) }

  @Test(
    "Retry-After is seconds or a date",
    arguments: [
      (["120"], .seconds(120)), (["0"], .zero), (["99999999999999999999999"], .seconds(100 * 366 * 86_400)),
      (["Sun, 06 Nov 1994 08:49:37 GMT"], .seconds(77)), (["Sun Nov  6 08:49:37 1994"], .seconds(77)),
      (["Sun, 06 Nov 1994 08:00:00 GMT"], .zero), (["-1"], nil), (["1.5"], nil), (["soon"], nil), ([""], nil),
      ([], nil),
      (["5", "5"], .seconds(5)), (["5", "6"], nil),
    ] as [([String], Duration?)])
  func retryAfter(values: [String], delay: Duration?) {
    var fields = HTTPFields()
    fields[values: .retryAfter] = values
    #expect(fields.retryAfter(now: 784_111_700) == delay)
  }
}
