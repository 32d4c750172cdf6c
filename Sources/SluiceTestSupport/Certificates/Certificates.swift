import SluiceIO
import SluiceStreams
import SluiceTLS
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Certificates that are made anew by each run of the tests, by OpenSSL's command.
package struct Certificates: Sendable {
  package let folder: FilePath

  private static let made = Task<Certificates, any Error> {
    let folder = FilePath(#filePath).removingLastComponent()
    let root = folder.removingLastComponent().removingLastComponent().removingLastComponent()
    // Tests of several processes run side by side.
    let target = root.appending(".build/certificates-\(getpid())")
    let make = try await ChildProcess.spawn([folder.appending("make").string, target.string])
    try await make.close()
    _ = try await make.collect(limit: 1 << 20)
    if let failure = try await make.waitForExit() { throw failure }
    return Certificates(folder: target)
  }

  package static func load() async throws -> Certificates { try await made.value }

  package func file(_ name: String) -> FilePath { folder.appending(name) }

  package func identity(_ name: String) -> TLSIdentity {
    .pem(certificates: .file(file(name + ".pem")), key: .file(file(name + ".key")))
  }

  package func server(_ name: String = "good", _ change: (inout TLSServerOptions) -> Void = { _ in }) throws
    -> TLSServerContext
  {
    var options = TLSServerOptions(identity(name))
    change(&options)
    return try TLSServerContext(options)
  }

  package func client(_ change: (inout TLSClientOptions) -> Void = { _ in }) throws -> TLSClientContext {
    var options = TLSClientOptions()
    options.trust = .file(file("root.pem"))
    change(&options)
    return try TLSClientContext(options)
  }
}
