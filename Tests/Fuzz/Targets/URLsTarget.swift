import HTTPTypes
import SluiceHTTP
import SluiceStreams

/// URLs, references, hosts, dates and response heads: what a client reads of a server's answer before there is a connection of another protocol.
enum URLsTarget: FuzzTarget {
  static let name = "urls"

  static func run(_ input: Bytes) {
    let text = input.string
    let base = URIReference("ws://a/b/c/d;p?q")
    let reference = URIReference(text)
    promise(
      reference.description.utf8.elementsEqual(text.utf8) || reference.scheme != nil, "it is not what it was: \(text)")
    let resolved = reference.resolved(against: base)
    promise(resolved.scheme != nil, "\(text) has no scheme")
    // What is resolved stays what it is.
    promise(resolved.resolved(against: base) == resolved, "\(resolved) is resolved again")
    for url in [text, resolved.description] {
      guard let url = try? ConnectionURL(url) else { continue }
      promise((1...65535).contains(url.port) && !url.host.isEmpty, "\(url)")
      promise(
        (try? ConnectionURL(url.description))?.description == url.description, "\(url) is not read as it is written")
      promise((try? HostName.check(url.host)) != nil, "\(url.host) is no host")
    }
    _ = try? HostName.decode(text.wire)
    _ = try? HostName.check(text)
    if let date = HTTPDate.parse(text), (0..<253_402_300_800).contains(date) {
      promise(HTTPDate.parse(HTTPDate.text(secondsSince1970: date)) == date, text)
    }
    var fields = HTTPFields()
    fields[.retryAfter] = text
    if let delay = fields.retryAfter(now: 1_700_000_000) { promise(delay >= .zero, text) }
    fields[.contentLength] = text
    _ = try? BodyFraming(ofResponse: fields)
    var reader = HeadReader()
    if let (head, _) = try? reader.consume(input), let response = try? ResponseHead(head).response {
      for field in response.headerFields {
        promise(!field.value.utf8.contains { $0 < 0x20 && $0 != 0x09 }, "a fold is left")
      }
    }
  }

  // MARK: inputs

  private static let parts: [StaticString] = [
    "ws:", "wss://", "http://", "//", "/", ".", "..", "?", "#", "@", ":", "80", "65536", "[::1]", "a", "b.c", "%41",
    "%00", "%zz", "m\u{FC}ller",
    "Sun, ", "06 Nov 1994 ", "06-Nov-94 ", "08:49:37", " GMT", "Nov  6 ", "1994", "HTTP/1.1 200 OK\r\n", "A: b\r\n",
    "\r\n ", "\r\n\r\n", ",", "7",
  ]

  static func randomInput(_ generator: inout SplitMix) -> Bytes {
    var builder = BytesBuilder(capacity: 256)
    for _ in 0..<generator.below(12) {
      if generator.below(20) == 0 {
        builder.append(generator.byte())
      } else {
        builder.append("\(parts[generator.below(parts.count)])")
      }
    }
    return builder.take()
  }
}
