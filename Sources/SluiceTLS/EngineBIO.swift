import CSluiceOpenSSL
import SluiceStreams

/// Where OpenSSL reads from and writes to: an engine's own buffers, without a copy between.
enum EngineBIO {
  /// One for the process, never freed.
  private static let method: Method = {
    let method = unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice")
    unsafe BIO_meth_set_read(method) { bio, target, count in
      guard let bio = unsafe bio, let target = unsafe target, let engine = unsafe EngineBIO.engine(bio) else {
        return -1
      }
      unsafe sluice_BIO_clear_retry_flags(bio)
      let taken = unsafe engine.takeInput(UnsafeMutableRawBufferPointer(start: target, count: Int(count)))
      if taken > 0 { return CInt(taken) }
      unsafe sluice_BIO_set_retry_read(bio)
      return -1
    }
    unsafe BIO_meth_set_write(method) { bio, source, count in
      guard let bio = unsafe bio, let source = unsafe source, let engine = unsafe EngineBIO.engine(bio) else {
        return -1
      }
      unsafe sluice_BIO_clear_retry_flags(bio)
      unsafe engine.giveOutput(UnsafeRawBufferPointer(start: source, count: Int(count)))
      return count
    }
    unsafe BIO_meth_set_ctrl(method) { bio, command, number, pointer in
      if command == BIO_CTRL_FLUSH { return 1 }
      guard let bio = unsafe bio, let engine = unsafe EngineBIO.engine(bio) else { return 0 }
      switch command {
      case KernelControl.setKeys:
        // The number says whether they are for sending.
        guard number != 0, let pointer = unsafe pointer else { return 0 }
        return unsafe engine.sendByKernel(with: pointer) ? 1 : 0
      case KernelControl.isSending: return engine.isSendingByKernel ? 1 : 0
      case KernelControl.setRecordType: engine.setKernelRecordType(number)
      default: break
      }
      return 0
    }
    return unsafe Method(pointer: method)
  }()

  /// What OpenSSL asks of whoever has the socket; openssl/bio.h gives some of the numbers in a comment only.
  private enum KernelControl {
    static let setKeys: CInt = 72
    static let isSending = BIO_CTRL_GET_KTLS_SEND
    static let setRecordType: CInt = 74
  }

  @safe private struct Method: @unchecked Sendable {  // set up once, and only read then
    let pointer: OpaquePointer?
  }

  private static func engine(_ bio: OpaquePointer) -> TLSEngine? {
    guard let data = unsafe BIO_get_data(bio) else { return nil }
    return unsafe Unmanaged<TLSEngine>.fromOpaque(data).takeUnretainedValue()
  }

  /// Connects an SSL with its engine, which owns it and so outlives it.
  static func attach(_ ssl: OpaquePointer, to engine: TLSEngine) -> Bool {
    guard let bio = unsafe BIO_new(method.pointer) else { return false }
    unsafe BIO_set_data(bio, Unmanaged.passUnretained(engine).toOpaque())
    unsafe BIO_set_init(bio, 1)
    // The SSL takes over one reference for reading and the same for writing.
    unsafe SSL_set_bio(ssl, bio, bio)
    return true
  }
}
