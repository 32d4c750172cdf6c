#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Which of the planted mutants is at work; `scripts/mutate` plants them, in a copy of the sources.
@usableFromInline
package enum Mutant {
  private static let chosen = unsafe getenv("SLUICE_MUTANT").flatMap { unsafe Int(String(cString: $0)) } ?? -1

  /// A byte for each mutant in a file, so that what was reached is known also of a run that ended by a trap.
  nonisolated(unsafe) private static let reached: UnsafeMutablePointer<UInt8>? = {
    guard let path = unsafe getenv("SLUICE_MUTANTS_REACHED") else { return nil }
    let descriptor = unsafe open(path, O_RDWR)
    let size = Int(lseek(descriptor, 0, SEEK_END))
    guard descriptor >= 0, size > 0 else { return nil }
    let memory = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    return unsafe memory == MAP_FAILED ? nil : memory?.bindMemory(to: UInt8.self, capacity: size)
  }()

  @usableFromInline
  package static func on(_ number: Int) -> Bool {
    unsafe reached?[number] = 1
    return number == chosen
  }
}
