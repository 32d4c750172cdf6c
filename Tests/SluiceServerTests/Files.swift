import Sluice
import SystemPackage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A folder with files, each of which holds "file " and its name, while `body` runs. A name may have one folder before it.
func withFiles(_ names: [String], _ body: (FilePath) async throws -> Void) async throws {
  var template = Array("/tmp/sluice-files-XXXXXX".utf8CString)
  let name = unsafe template.withUnsafeMutableBufferPointer { unsafe String(cString: mkdtemp($0.baseAddress!)) }
  let root = FilePath(name)
  let folders = Set(names.compactMap { $0.split(separator: "/").count > 1 ? String($0.split(separator: "/")[0]) : nil })
  for folder in folders { unsafe mkdir(root.appending(folder).string, 0o755) }
  for name in names {
    let file = try await File.create(root.appending(name))
    try await file.write(Bytes("file \(name)"))
    try await file.close()
  }
  defer {
    for name in names { unsafe unlink(root.appending(name).string) }
    for folder in folders { unsafe rmdir(root.appending(folder).string) }
    unsafe rmdir(root.string)
  }
  try await body(root)
}

/// The descriptors that this process has open.
func openDescriptorCount() -> Int {
  guard let folder = unsafe opendir("/proc/self/fd") else { return 0 }
  defer { unsafe closedir(folder) }
  var count = 0
  while unsafe readdir(folder) != nil { count += 1 }
  return count
}
