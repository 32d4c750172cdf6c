import CSluiceOpenSSL
import SluiceStreams
import Synchronization

/// A client's certificates, trust and resumable sessions, for many connections.
///
/// ```swift
/// var options = TLSClientOptions()
/// options.trust = .file("ca.pem")
/// let context = try TLSClientContext(options)
/// let stream = try await context.connect(over: socket, to: "example.com")
/// ```
@safe public final class TLSClientContext: Sendable {
  public let options: TLSClientOptions
  let handle: ContextHandle
  let verifies: Bool
  let sessions = SessionCache()

  private static let shared = Mutex<TLSClientContext?>(nil)

  /// One for all connections that ask for nothing special: the system's roots are read once.
  /// - Throws: `TLSError` if OpenSSL can't be set up.
  public static func system() throws(TLSError) -> TLSClientContext {
    if let context = shared.withLock({ $0 }) { return context }
    let context = try TLSClientContext()
    shared.withLock { $0 = context }
    return context
  }

  /// Reads the files that the options name.
  /// - Throws: `TLSError.invalidOption`.
  public init(_ options: TLSClientOptions = TLSClientOptions()) throws(TLSError) {
    self.options = options
    handle = try unsafe ContextHandle(TLS_client_method(), options.common)
    verifies = try handle.trust(options.trust)
    if let identity = options.identity { try handle.use(Identity.load(identity)) }
    handle.offerProtocols()
    let mode = SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
    unsafe sluice_SSL_CTX_set_session_cache_mode(handle.pointer, Int(mode))
    unsafe SSL_CTX_sess_set_new_cb(handle.pointer) { ssl, session in
      guard let session = unsafe session, let engine = unsafe TLSEngine.of(ssl) else { return 0 }
      // 1: the session is ours from here on.
      return unsafe engine.keep(session) ? 1 : 0
    }
  }
}

/// Sessions to resume, by the name that they were made for. A session of TLS 1.3 is used once (RFC 8446 §C.4).
@safe final class SessionCache: Sendable {
  @safe private struct Sessions: @unchecked Sendable {  // touched under the lock only
    var byName: [String: [OpaquePointer]] = unsafe [:]
  }
  private let sessions = Mutex(Sessions())
  private static let maxPerName = 4
  private static let maxNames = 1000

  /// Takes a session over.
  func add(_ session: OpaquePointer, for name: String) -> Bool {
    let entry = unsafe Entry(pointer: session)
    return sessions.withLock { sessions in
      guard unsafe sessions.byName[name] != nil || sessions.byName.count < Self.maxNames else { return false }
      unsafe sessions.byName[name, default: []].append(entry.pointer)
      if unsafe sessions.byName[name, default: []].count > Self.maxPerName {
        if let oldest = unsafe sessions.byName[name]?.removeFirst() { unsafe SSL_SESSION_free(oldest) }
      }
      return true
    }
  }

  /// The latest session; the caller frees it.
  func take(for name: String) -> OpaquePointer? {
    let entry = sessions.withLock { sessions -> Entry? in
      guard let session = unsafe sessions.byName[name]?.last else { return nil }
      if unsafe SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION {
        unsafe SSL_SESSION_up_ref(session)
        return unsafe Entry(pointer: session)
      }
      unsafe sessions.byName[name]?.removeLast()
      if unsafe sessions.byName[name]?.isEmpty == true { unsafe sessions.byName[name] = nil }
      return unsafe Entry(pointer: session)
    }
    return unsafe entry?.pointer
  }

  /// A session on its way into or out of the cache: nobody else has it.
  @safe private struct Entry: @unchecked Sendable {
    let pointer: OpaquePointer
  }

  deinit {
    sessions.withLock { sessions in
      var all = unsafe Array(sessions.byName.values.joined())
      while let session = unsafe all.popLast() { unsafe SSL_SESSION_free(session) }
    }
  }
}
