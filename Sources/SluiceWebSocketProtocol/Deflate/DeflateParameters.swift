/// The four parameters of permessage-deflate, in an offer or in an answer (RFC 7692 §7.1).
struct DeflateParameters: Hashable {
  /// `client_max_window_bits`: an offer may leave out the value.
  enum ClientWindow: Hashable {
    case unsaid
    case bits(Int)

    var limit: Int {
      switch self {
      case .unsaid: 15
      case .bits(let bits): bits
      }
    }
  }

  var serverNoContextTakeover = false
  var clientNoContextTakeover = false
  var serverMaxWindowBits: Int?
  var clientMaxWindowBits: ClientWindow?

  init(clientMaxWindowBits: ClientWindow? = nil) {
    self.clientMaxWindowBits = clientMaxWindowBits
  }

  /// - Throws: for a parameter that is unknown, comes twice, or has no value that it may have.
  init(_ written: ExtensionParameters) throws(DeflateParameterError) {
    var seen: Set<String> = []
    for parameter in written.parameters {
      guard seen.insert(parameter.name).inserted else { throw .duplicate(parameter.name) }
      switch parameter.name {
      case "server_no_context_takeover":
        if parameter.value != nil { throw .invalidValue(parameter.name) }
        serverNoContextTakeover = true
      case "client_no_context_takeover":
        if parameter.value != nil { throw .invalidValue(parameter.name) }
        clientNoContextTakeover = true
      case "server_max_window_bits":
        guard let bits = Self.windowBits(parameter.value) else { throw .invalidValue(parameter.name) }
        serverMaxWindowBits = bits
      case "client_max_window_bits":
        if parameter.value == nil {
          clientMaxWindowBits = .unsaid
        } else if let bits = Self.windowBits(parameter.value) {
          clientMaxWindowBits = .bits(bits)
        } else {
          throw .invalidValue(parameter.name)
        }
      default: throw .unknown(parameter.name)
      }
    }
  }

  /// §7.1.2: a decimal number from 8 to 15 without leading zeros.
  private static func windowBits(_ value: String?) -> Int? {
    switch value {
    case "8": 8
    case "9": 9
    case "10": 10
    case "11": 11
    case "12": 12
    case "13": 13
    case "14": 14
    case "15": 15
    default: nil
    }
  }

  func written(as name: String) -> ExtensionParameters {
    var parameters: [ExtensionParameters.Parameter] = []
    if serverNoContextTakeover { parameters.append(.init(name: "server_no_context_takeover")) }
    if clientNoContextTakeover { parameters.append(.init(name: "client_no_context_takeover")) }
    if let bits = serverMaxWindowBits { parameters.append(.init(name: "server_max_window_bits", value: String(bits))) }
    switch clientMaxWindowBits {
    case .unsaid: parameters.append(.init(name: "client_max_window_bits"))
    case .bits(let bits): parameters.append(.init(name: "client_max_window_bits", value: String(bits)))
    case nil: break
    }
    return ExtensionParameters(name: name, parameters: parameters)
  }
}

/// Why parameters of permessage-deflate are rejected.
enum DeflateParameterError: Error, Hashable, CustomStringConvertible {
  case unknown(String)
  case duplicate(String)
  case invalidValue(String)
  case notGranted(String)

  var description: String {
    switch self {
    case .unknown(let name): "unknown parameter \(name)"
    case .duplicate(let name): "duplicate parameter \(name)"
    case .invalidValue(let name): "invalid value of \(name)"
    case .notGranted(let name): "\(name) was requested but not granted"
    }
  }
}
