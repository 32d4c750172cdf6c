#if FUZZER
  import SluiceStreams

  /// What libFuzzer calls with each of its inputs.
  nonisolated(unsafe) private var current: any FuzzTarget.Type = FramesTarget.self  // one thread

  @_extern(c, "LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
  ) -> CInt

  func runLibFuzzer(_ target: any FuzzTarget.Type, _ arguments: [String]) {
    unsafe current = target
    let strings = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: arguments.count + 1)
    for (index, argument) in arguments.enumerated() { unsafe strings[index] = strdup(argument) }
    unsafe strings[arguments.count] = nil
    var count = CInt(arguments.count)
    var pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe strings
    let status = unsafe runDriver(&count, &pointer) { bytes, count in
      let buffer = unsafe UnsafeBufferPointer(start: bytes, count: count)
      unsafe current.run(Bytes(Array(buffer)))
      return 0
    }
    exit(status)
  }
#endif
