import Testing

@testable import SluiceHTTP

@Suite("References (RFC 3986 §5)")
struct URIReferenceTests {
  private func resolve(_ reference: String, against base: String = "http://a/b/c/d;p?q") -> String {
    URIReference(reference).resolved(against: URIReference(base)).description
  }

  @Test(
    "normal examples (§5.4.1)",
    arguments: [
      ("g:h", "g:h"), ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"),
      ("/g", "http://a/g"), ("//g", "http://g"), ("?y", "http://a/b/c/d;p?y"), ("g?y", "http://a/b/c/g?y"),
      ("#s", "http://a/b/c/d;p?q#s"), ("g#s", "http://a/b/c/g#s"), ("g?y#s", "http://a/b/c/g?y#s"),
      (";x", "http://a/b/c/;x"), ("g;x", "http://a/b/c/g;x"), ("g;x?y#s", "http://a/b/c/g;x?y#s"),
      ("", "http://a/b/c/d;p?q"), (".", "http://a/b/c/"), ("./", "http://a/b/c/"), ("..", "http://a/b/"),
      ("../", "http://a/b/"), ("../g", "http://a/b/g"), ("../..", "http://a/"), ("../../", "http://a/"),
      ("../../g", "http://a/g"),
    ])
  func normal(reference: String, target: String) { #expect(resolve(reference) == target) }

  @Test(
    "abnormal examples (§5.4.2), strictly",
    arguments: [
      ("../../../g", "http://a/g"), ("../../../../g", "http://a/g"), ("/./g", "http://a/g"), ("/../g", "http://a/g"),
      ("g.", "http://a/b/c/g."), (".g", "http://a/b/c/.g"), ("g..", "http://a/b/c/g.."), ("..g", "http://a/b/c/..g"),
      ("./../g", "http://a/b/g"), ("./g/.", "http://a/b/c/g/"), ("g/./h", "http://a/b/c/g/h"),
      ("g/../h", "http://a/b/c/h"), ("g;x=1/./y", "http://a/b/c/g;x=1/y"), ("g;x=1/../y", "http://a/b/c/y"),
      ("g?y/./x", "http://a/b/c/g?y/./x"), ("g?y/../x", "http://a/b/c/g?y/../x"),
      ("g#s/./x", "http://a/b/c/g#s/./x"), ("g#s/../x", "http://a/b/c/g#s/../x"), ("http:g", "http:g"),
    ])
  func abnormal(reference: String, target: String) { #expect(resolve(reference) == target) }

  @Test("a scheme ends before the first slash, question mark or hash")
  func schemes() {
    #expect(resolve("/login?next=http://example.com/") == "http://a/login?next=http://example.com/")
    #expect(resolve("?u=ws://x/") == "http://a/b/c/d;p?u=ws://x/")
    #expect(resolve("#ws://x") == "http://a/b/c/d;p?q#ws://x")
    #expect(resolve("x/y:z") == "http://a/b/c/x/y:z")
    #expect(resolve("WSS://x/y/../z") == "wss://x/z")
  }

  @Test("a path that begins with two slashes is no authority")
  func doubleSlash() {
    #expect(resolve("/.//g") == "http://a//g")
    #expect(resolve("ws:x/..//evil/") == "ws:/.//evil/")
  }

  @Test("a base without a path has the root's")
  func emptyBase() {
    #expect(resolve("g", against: "http://a") == "http://a/g")
    #expect(resolve("?y", against: "http://a") == "http://a?y")
  }

  @Test("a path of dots takes time as its length does")
  func long() {
    let count = 100_000
    #expect(resolve(String(repeating: "a/", count: count) + String(repeating: "../", count: count)) == "http://a/b/c/")
    #expect(resolve(String(repeating: "../", count: count)) == "http://a/")
  }
}
