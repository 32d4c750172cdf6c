import Sluice
import SystemPackage
import Testing

@testable import SluiceServer

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

@Suite("Static files", .timeLimit(.minutes(1)))
struct StaticFilesTests {
  /// A folder with some files, which is gone afterwards.
  private func withFolder(_ body: (FilePath) async throws -> Void) async throws {
    var template = Array("/tmp/sluice-files-XXXXXX\0".utf8CString.dropLast())
    let name = unsafe template.withUnsafeMutableBufferPointer { unsafe String(cString: mkdtemp($0.baseAddress!)) }
    let folder = FilePath(name)
    unsafe mkdir(folder.appending("sub").string, 0o755)
    unsafe mkdir(folder.appending(".git").string, 0o755)
    unsafe mkfifo(folder.appending("pipe").string, 0o644)
    for (path, text) in [
      ("index.html", "<p>index</p>"), ("sub/index.html", "<p>sub</p>"), ("a b.txt", "spaced"), ("x.unknown", "?"),
      (".secret", "hidden"), (".git/config", "hidden"), ("100%.txt", "percent"),
    ] {
      let file = try await File.create(folder.appending(path))
      try await file.write(Bytes(text))
      try await file.close()
    }
    defer {
      for path in ["index.html", "sub/index.html", "a b.txt", "x.unknown", ".secret", ".git/config", "100%.txt", "big"]
      {
        unsafe unlink(folder.appending(path).string)
      }
      unsafe unlink(folder.appending("pipe").string)
      for path in ["sub", ".git", ""] { unsafe rmdir(folder.appending(path).string) }
    }
    try await body(folder)
  }

  private func serving(
    _ folder: FilePath, links: FileLinks = .withinFolder, _ body: (HTTPServer) async throws -> Void
  ) async throws {
    try await withServer(routes: [.files("/*", in: folder, links: links)], body)
  }

  private func get(_ path: String, _ method: String = "GET", from server: HTTPServer) async throws -> Bytes {
    let socket = try await TCP.connect("127.0.0.1", port: server.port)
    try await socket.write(Bytes("\(method) \(path) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    let answer: Bytes = try await socket.collect(limit: 1 << 25)
    socket.abort(StreamError.aborted)
    return answer
  }

  @Test("files, those of folders, and names that are encoded")
  func files() async throws {
    try await withFolder { folder in
      try await serving(folder) { server in
        for (path, type, text) in [
          ("/", "text/html; charset=utf-8", "<p>index</p>"),
          ("/index.html?v=1", "text/html; charset=utf-8", "<p>index</p>"),
          ("/sub/", "text/html; charset=utf-8", "<p>sub</p>"), ("/a%20b.txt", "text/plain; charset=utf-8", "spaced"),
          ("/x.unknown", "application/octet-stream", "?"), ("/100%25.txt", "text/plain; charset=utf-8", "percent"),
        ] {
          let answer = try await get(path, from: server).string
          #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.hasSuffix("\r\n\r\n\(text)"), "\(path)")
          #expect(
            answer.contains(
              "\r\nContent-Type: \(type)\r\nX-Content-Type-Options: nosniff\r\nContent-Length: \(text.utf8.count)\r\n"),
            "\(path)")
        }
        let head = try await get("/a%20b.txt", "HEAD", from: server).string
        #expect(head.contains("\r\nContent-Length: 6\r\n") && head.hasSuffix("\r\n\r\n"))
      }
    }
  }

  @Test(
    "no path leads out of the folder, to what is hidden, or to what is no file",
    arguments: [
      "/../etc/passwd", "/%2e%2e/etc/passwd", "/sub/../../etc/passwd", "/..%2fetc/passwd", "/sub/..%2Findex.html",
      "/.secret", "/.git/config", "/%2esecret", "//etc/passwd", "/sub//index.html", "/index.html%00", "/sub", "/pipe",
      "/missing", "/index.html/", "/%ff", "/.%2Findex.html", "/.%00", "/sub/../.secret", "/%2e/.git/config",
      "/\(String(repeating: "x", count: 300))",
    ])
  func traversal(path: String) async throws {
    try await withFolder { folder in
      try await serving(folder) { server in
        let answer = try await get(path, from: server).string
        #expect(answer.hasPrefix("HTTP/1.1 404 Not Found\r\n"), "\(answer)")
      }
    }
  }

  @Test("dot segments are resolved within the folder; what is no encoding is refused")
  func spellings() async throws {
    try await withFolder { folder in
      try await serving(folder) { server in
        for path in ["/sub/%2E%2E/index.html", "/./index.html", "/../index.html", "/sub/..", "/x/y/../../%69ndex.html"]
        {
          let answer = try await get(path, from: server).string
          #expect(answer.hasSuffix("<p>index</p>"), "\(path)")
        }
        for path in ["/a%2", "/a%zz", "/a%+1", "/%"] {
          let answer = try await get(path, from: server).string
          #expect(answer.hasPrefix("HTTP/1.1 400 "), "\(path)")
        }
      }
    }
  }

  @Test("symbolic links lead to what the folder has, and out of it only where that is allowed")
  func links() async throws {
    try await withFolder { folder in
      let outside = folder.string + ".outside"
      let file = try await File.create(FilePath(outside))
      try await file.write("outside")
      try await file.close()
      let links = [
        ("in.txt", "a b.txt"), ("out.txt", outside), ("hidden.txt", ".secret"), ("up", ".."), ("loop", "loop"),
        ("neighbour", outside.replacing("/tmp/", with: "../")),
      ]
      for (name, target) in links { unsafe symlink(target, folder.appending(name).string) }
      defer {
        for (name, _) in links { unsafe unlink(folder.appending(name).string) }
        unsafe unlink(outside)
      }
      let name = String(outside.dropFirst("/tmp/".count))
      for (policy, allowed) in [
        (FileLinks.withinFolder, ["/in.txt"]), (.anywhere, ["/in.txt", "/out.txt", "/up/\(name)"]),
      ] {
        try await serving(folder, links: policy) { server in
          for path in ["/in.txt", "/out.txt", "/up/\(name)", "/loop"] {
            let answer = try await get(path, from: server).string
            #expect(answer.hasPrefix(allowed.contains(path) ? "HTTP/1.1 200 " : "HTTP/1.1 404 "), "\(policy) \(path)")
          }
          if policy == .withinFolder {
            for path in ["/hidden.txt", "/neighbour"] {
              let answer = try await get(path, from: server).string
              #expect(answer.hasPrefix("HTTP/1.1 404 "), "\(path)")
            }
          }
        }
      }
      // A folder that is reached through a link is served as it is.
      let alias = folder.string + ".alias"
      unsafe symlink(folder.string, alias)
      defer { unsafe unlink(alias) }
      try await serving(FilePath(alias)) { server in
        let answer = try await get("/a%20b.txt", from: server).string
        #expect(answer.hasSuffix("spaced"))
      }
    }
  }

  @Test("a file of many chunks arrives as it is")
  func large() async throws {
    try await withFolder { folder in
      let contents = Bytes((0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 7) })
      let file = try await File.create(folder.appending("big"))
      try await file.write(contents)
      try await file.close()
      try await serving(folder) { server in
        let answer = try await get("/big", from: server)
        #expect(answer.suffix(contents.count) == contents)
      }
    }
  }
}
