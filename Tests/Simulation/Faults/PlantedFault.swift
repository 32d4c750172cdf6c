#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Which of the faults of this folder is at work: `scripts/planted-faults` plants them all, in a copy of the sources.
@usableFromInline
package enum PlantedFault {
  private static let name = unsafe getenv("SLUICE_PLANTED_FAULT").map { unsafe String(cString: $0) }

  @usableFromInline
  package static func isOn(_ fault: String) -> Bool { name == fault }
}
