import CSluiceSystem
import CSluiceUV
import SluiceStreams

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A descriptor of this process whose open file others share: the shell, the other commands of a pipeline, a terminal's programs.
///
/// Whether calls on it wait (O_NONBLOCK) is a property of that file, and so theirs too: others that write to the same pipe would get EAGAIN, and
/// lose what they write. It is never changed, not even for a while, as a process that is killed puts nothing back:
///
/// | what it is | how it is used |
/// |---|---|
/// | a pipe, a terminal | opened once more, through /proc/self/fd, which makes a file of our own |
/// | a socket | each call says that it is not to wait (MSG_DONTWAIT) |
/// | a file, /dev/null | on the thread pool |
/// | a device, and what can't be opened once more, such as another user's pipe | on the thread pool, when it need not wait |
enum SharedDescriptor {
  /// A stream of one direction, whose end ends nothing for others. On the loop only.
  /// - Throws: `IOError`: EBADF if it is closed; `StreamError.closed` if it is a pipe that nobody reads.
  static func stream(
    of descriptor: CInt, isInput: Bool, name: String, on loop: UVLoop
  ) throws -> any PolledDuplexStream<Bytes, Bytes> {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { throw IOError("open", name, status: -errno) }
    switch status.st_mode & S_IFMT {
    case S_IFSOCK: return try socket(descriptor, isInput: isInput, name: name, on: loop)
    case S_IFIFO: return try pipe(descriptor, isInput: isInput, name: name, on: loop)
    case S_IFCHR where isatty(descriptor) == 1:
      let own = sluice_reopen(descriptor, isInput)
      if own < 0 { return try guarded(descriptor, isInput: isInput, name: name, on: loop) }
      let watch = try DescriptorWatch(own, on: loop, operation: "open", subject: name)
      return SocketStream(watch, on: loop, name: name, direction: isInput ? .readOnly : .writeOnly, isSocket: false)
    case S_IFREG, S_IFBLK, S_IFDIR:
      return PooledFile(
        descriptor: descriptor, owned: false, name: name, direction: isInput ? .read : .write, on: loop)
    default: return try guarded(descriptor, isInput: isInput, name: name, on: loop)
    }
  }

  private static func socket(
    _ descriptor: CInt, isInput: Bool, name: String, on loop: UVLoop
  ) throws -> SocketStream {
    let own = try duplicate(of: descriptor, name)
    let watch = try DescriptorWatch(own, on: loop, operation: "open", subject: name)
    let stream = SocketStream(watch, on: loop, name: name, direction: isInput ? .readOnly : .writeOnly)
    // A pair of sockets is a pipe to whoever started us. What was accepted, and given to us as inetd does, is ours.
    stream.endsConnection = hasAddress(own)
    return stream
  }

  private static func hasAddress(_ socket: CInt) -> Bool {
    var address = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = unsafe withUnsafeMutableBytes(of: &address) { bytes in
      unsafe getsockname(socket, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress!, &length)
    }
    return status == 0 && Int(length) > MemoryLayout<sa_family_t>.size
  }

  private static func pipe(
    _ descriptor: CInt, isInput: Bool, name: String, on loop: UVLoop
  ) throws -> any PolledDuplexStream<Bytes, Bytes> {
    let own = sluice_reopen(descriptor, isInput)
    let isAnonymous = sluice_is_anonymous_pipe(descriptor)
    if !isInput && (own == UV_ENXIO.rawValue || isAnonymous && sluice_has_hung_up(descriptor)) {
      if own >= 0 { _ = closeDescriptor(own) }
      throw StreamError.closed
    }
    if own < 0 { return try guarded(descriptor, isInput: isInput, name: name, on: loop) }
    if isInput && sluice_has_hung_up(descriptor) {
      // Nobody writes any more: a named pipe that was opened behind the last writer never tells so, and what is left has nobody wait.
      _ = closeDescriptor(own)
      return PooledFile(descriptor: descriptor, owned: false, name: name, direction: .read, on: loop)
    }
    let watch = try DescriptorWatch(own, on: loop, operation: "open", subject: name)
    return SocketStream(
      watch, on: loop, name: name, direction: isInput ? .readOnly : .writeOnly, isSocket: false,
      readerMayReturn: !isAnonymous)
  }

  private static func guarded(
    _ descriptor: CInt, isInput: Bool, name: String, on loop: UVLoop
  ) throws -> PooledFile {
    let own = try duplicate(of: descriptor, name)
    let direction: PooledFile.Direction = isInput ? .read : .write
    do {
      if let watch = try DescriptorWatch.borrow(own, on: loop, operation: "open", subject: name) {
        return PooledFile(
          guarding: watch, name: name, direction: direction, readerMayReturn: !sluice_is_anonymous_pipe(own), on: loop)
      }
      // It never has anybody wait, as /dev/null.
      return PooledFile(descriptor: own, owned: true, name: name, direction: direction, on: loop)
    } catch {
      _ = closeDescriptor(own)
      throw error
    }
  }

  private static func duplicate(of descriptor: CInt, _ name: String) throws -> CInt {
    let duplicate = sluice_duplicate(descriptor)
    guard duplicate >= 0 else { throw IOError("open", name, status: duplicate) }
    return duplicate
  }
}
