/// What the streams of one loop share, one value of each type: pools of what is costly to make.
public final class LoopLocals: @unchecked Sendable {  // used on its loop only
  private var values: [ObjectIdentifier: AnyObject] = [:]

  public init() {}

  /// The loop's value of a type, made when it is asked for first.
  package func value<Value: AnyObject>(_ make: () -> Value) -> Value {
    if let value = values[ObjectIdentifier(Value.self)] as? Value { return value }
    let value = make()
    values[ObjectIdentifier(Value.self)] = value
    return value
  }
}
