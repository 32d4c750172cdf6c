#if Redis
  import CSluiceHiredis
  import SluiceStreams

  /// What Redis answers to one command.
  enum RedisReply: Sendable {
    case string(Bytes)
    case status(String)
    case integer(Int64)
    case array([RedisReply])
    case error(String)
    case null

    /// Of a string, and of a number's text.
    var bytes: Bytes? {
      switch self {
      case .string(let bytes): bytes
      case .status(let text): Bytes(text)
      case .integer(let number): Bytes(String(number))
      case .array, .error, .null: nil
      }
    }

    var text: String? { bytes?.string }

    var array: [RedisReply]? {
      if case .array(let elements) = self { elements } else { nil }
    }
  }

  /// Cuts bytes into replies: hiredis' reader, which keeps what is not whole yet.
  @safe final class RedisReplyReader: @unchecked Sendable {  // used on its connection's loop only
    private let reader: UnsafeMutablePointer<redisReader>
    /// Bytes since the last whole reply.
    private var unfinishedCount = 0
    /// Bytes of one reply. What is asked for is bounded below that; a server that sends more is none.
    private static let maxReplyBytes = 256 << 20

    init?() {
      guard let reader = unsafe redisReaderCreate() else { return nil }
      unsafe self.reader = reader
    }

    deinit { unsafe redisReaderFree(reader) }

    /// - Throws: `TopicError.unavailable` for what is not RESP: the connection is of no use any more.
    func consume(_ bytes: Bytes) throws -> [RedisReply] {
      unfinishedCount += bytes.count
      let status = unsafe bytes.withUnsafeBytes { buffer in
        unsafe redisReaderFeed(reader, buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count)
      }
      guard status == REDIS_OK else { throw RedisProtocolError.malformed }
      var replies: [RedisReply] = []
      while true {
        var reply: UnsafeMutableRawPointer?
        guard unsafe redisReaderGetReply(reader, &reply) == REDIS_OK else { throw RedisProtocolError.malformed }
        guard let whole = unsafe reply else {
          guard unfinishedCount <= Self.maxReplyBytes else { throw RedisProtocolError.tooLarge }
          return replies
        }
        defer { unsafe freeReplyObject(whole) }
        unfinishedCount = 0
        unsafe replies.append(Self.reply(whole.assumingMemoryBound(to: redisReply.self)))
      }
    }

    private static func reply(_ reply: UnsafeMutablePointer<redisReply>) -> RedisReply {
      switch unsafe reply.pointee.type {
      case REDIS_REPLY_STRING: unsafe .string(bytes(of: reply))
      case REDIS_REPLY_STATUS: unsafe .status(bytes(of: reply).string)
      case REDIS_REPLY_ERROR: unsafe .error(bytes(of: reply).string)
      case REDIS_REPLY_INTEGER: unsafe .integer(Int64(reply.pointee.integer))
      case REDIS_REPLY_ARRAY: unsafe .array(elements(of: reply))
      default: .null
      }
    }

    private static func bytes(of reply: UnsafeMutablePointer<redisReply>) -> Bytes {
      guard let text = unsafe reply.pointee.str else { return Bytes() }
      let memory = unsafe UnsafeRawBufferPointer(start: text, count: Int(reply.pointee.len))
      return unsafe Bytes(copying: memory.assumingMemoryBound(to: UInt8.self).span)
    }

    /// hiredis nests nine deep at the most.
    private static func elements(of reply: UnsafeMutablePointer<redisReply>) -> [RedisReply] {
      guard let elements = unsafe reply.pointee.element else { return [] }
      return unsafe (0..<Int(reply.pointee.elements)).map { index in
        guard let element = unsafe elements[index] else { return .null }
        return unsafe Self.reply(element)
      }
    }
  }

  enum RedisProtocolError: Error, CustomStringConvertible {
    case malformed
    case tooLarge

    var description: String {
      switch self {
      case .malformed: "the answer is not RESP"
      case .tooLarge: "the answer is too large"
      }
    }
  }

  /// A command as an array of bulk strings.
  struct RedisCommand: Sendable {
    let encoded: Bytes

    init(_ arguments: [Bytes]) {
      var builder = BytesBuilder(capacity: arguments.reduce(16) { $0 + $1.count + 16 })
      builder.append("*\(arguments.count)\r\n")
      for argument in arguments {
        builder.append(UInt8(ascii: "$"))
        Self.append(argument.count, to: &builder)
        builder.append("\r\n")
        builder.append(argument)
        builder.append("\r\n")
      }
      encoded = builder.take()
    }

    /// Without a string: a batch has some thousand of them.
    private static func append(_ number: Int, to builder: inout BytesBuilder) {
      if number > 9 { append(number / 10, to: &builder) }
      builder.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number % 10))
    }

    init(_ arguments: String...) { self.init(arguments.map { Bytes($0) }) }
  }
#endif
