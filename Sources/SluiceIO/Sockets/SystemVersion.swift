import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The version of the operating system's kernel.
struct SystemVersion: Comparable {
  var major: Int
  var minor: Int

  /// 0.0 if it is not known.
  static let current: SystemVersion = {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return SystemVersion(major: 0, minor: 0) }
    let release = unsafe withUnsafeBytes(of: &name.release) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    return SystemVersion(release)
  }()

  init(major: Int, minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// - Parameter release: "6.1.0-50-amd64"; what is no number counts as 0.
  init(_ release: String) {
    let numbers = release.utf8.split(separator: UInt8(ascii: ".")).prefix(2).map {
      $0.prefix(while: ASCII.isDigit).decimal ?? 0
    }
    self.init(major: numbers.first ?? 0, minor: numbers.dropFirst().first ?? 0)
  }

  static func < (left: SystemVersion, right: SystemVersion) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}
