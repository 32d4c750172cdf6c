import CSluiceUV
import SluiceStreams

extension IOError {
  /// From a negative libuv status.
  init(_ operation: String, _ subject: String, status: CInt) {
    self.init(
      operation: operation, subject: subject, code: unsafe String(cString: uv_err_name(status)),
      reason: unsafe String(cString: uv_strerror(status)))
  }
}
