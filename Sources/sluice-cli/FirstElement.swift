import Sluice

/// Passes the first element and ends; says so if there is none.
struct FirstElement<Element: Sendable>: Transform {
  private var isPassed = false
  private let onNone: @Sendable () -> Void

  init(onNone: @escaping @Sendable () -> Void) { self.onNone = onNone }

  mutating func transform(_ input: consuming Element, into output: inout TransformOutput<Element>) {
    if !isPassed { output.append(input) }
    isPassed = true
    output.end()
  }

  func finish(into output: inout TransformOutput<Element>) {
    if !isPassed { onNone() }
  }
}
