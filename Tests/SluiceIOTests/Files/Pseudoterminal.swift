import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A terminal without a screen.
struct Pseudoterminal {
  /// Whoever plays the screen and the keyboard.
  let controllingEnd: CInt
  /// What programs open.
  let path: String

  init() throws {
    controllingEnd = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY)
    try #require(controllingEnd >= 0)
    // TIOCSPTLCK and TIOCGPTN, whose names Swift does not see.
    var (isLocked, number) = (CInt(0), CInt(-1))
    try #require(unsafe ioctl(controllingEnd, 0x4004_5431, &isLocked) == 0)
    try #require(unsafe ioctl(controllingEnd, 0x8004_5430, &number) == 0)
    path = "/dev/pts/\(number)"
  }
}
