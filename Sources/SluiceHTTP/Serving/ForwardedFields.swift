/// The field in which trusted proxies say where a request comes from. A proxy passes on the other one as its client has sent it: name the one that
/// yours write.
public enum ForwardedFields: Sendable, Hashable {
  /// `X-Forwarded-For`, and where a request has none, `Forwarded`. Right for proxies that write the first, or neither.
  case either
  case xForwardedFor
  /// `Forwarded` (RFC 7239) alone.
  case forwarded
}
