/// What both sides agreed on, in the order of the server's response.
package struct NegotiatedExtensions: Sendable {
  package var sessions: [any ExtensionSession] = []
  package var reservedBits: ReservedBits = []

  package init() {}

  mutating func add(_ session: any ExtensionSession, _ bits: ReservedBits) {
    sessions.append(session)
    reservedBits.formUnion(bits)
  }
}

/// The negotiation of RFC 6455 §9.1, for both sides.
package struct ExtensionNegotiation: Sendable {
  private let extensions: [any WebSocketExtension]

  /// - Parameter extensions: In order of preference; of two with the same name the first counts.
  package init(_ extensions: [any WebSocketExtension]) {
    self.extensions = extensions
  }

  /// The client's field, or nil if there is nothing to offer.
  package func offer() throws(ExtensionOfferError) -> String? {
    let offers = extensions.flatMap { $0.offers() }
    for offer in offers where !offer.isWritable { throw ExtensionOfferError(extensionName: offer.name) }
    return offers.isEmpty ? nil : offers.map(\.description).joined(separator: ", ")
  }

  /// The server's choice, in the server's order of preference.
  /// - Parameter fields: The values of the client's `Sec-WebSocket-Extensions` fields.
  /// - Returns: also the field of the response, nil if none of the offers is taken.
  package func answer(
    _ fields: [String]
  ) throws(HandshakeRejection) -> (negotiated: NegotiatedExtensions, field: String?) {
    var offered: [ExtensionParameters] = []
    for field in fields {
      do { offered += try ExtensionParameters.parse(field) } catch {
        throw HandshakeRejection(status: 400, reason: "malformed Sec-WebSocket-Extensions")
      }
    }
    var negotiated = NegotiatedExtensions()
    var answers: [ExtensionParameters] = []
    for supported in extensions {
      // §9.1: no two extensions may give one bit two meanings.
      guard negotiated.reservedBits.isDisjoint(with: supported.reservedBits),
        !answers.contains(where: { $0.name == supported.name })
      else { continue }
      let offers = offered.filter { $0.name == supported.name }
      guard !offers.isEmpty, let answer = supported.answer(offers), answer.parameters.isWritable else { continue }
      negotiated.add(answer.session, supported.reservedBits)
      answers.append(answer.parameters)
    }
    return (negotiated, answers.isEmpty ? nil : answers.map(\.description).joined(separator: ", "))
  }

  /// The client's check of what the server chose.
  package func accept(_ fields: [String]) throws(ClientHandshakeError) -> NegotiatedExtensions {
    var negotiated = NegotiatedExtensions()
    var names: Set<String> = []
    for field in fields {
      let answers: [ExtensionParameters]
      do { answers = try ExtensionParameters.parse(field) } catch { throw .malformedExtensions }
      for answer in answers {
        // §4.1: a server may choose only among what was offered.
        guard let chosen = extensions.first(where: { $0.name == answer.name }), !chosen.offers().isEmpty else {
          throw .unexpectedExtension(answer.name)
        }
        guard names.insert(answer.name).inserted else {
          throw .invalidExtension(answer.name, reason: "chosen twice")
        }
        guard negotiated.reservedBits.isDisjoint(with: chosen.reservedBits) else {
          throw .invalidExtension(answer.name, reason: "it uses the same reserved bit as another negotiated extension")
        }
        do { negotiated.add(try chosen.accept(answer), chosen.reservedBits) } catch {
          throw .invalidExtension(answer.name, reason: "\(error)")
        }
      }
    }
    return negotiated
  }
}

/// A custom extension whose offer can't be sent: its name, a parameter or a value is not a token.
public struct ExtensionOfferError: Error, Hashable, Sendable, CustomStringConvertible {
  public let extensionName: String

  public var description: String {
    "the extension \(extensionName.debugDescription) offers a name or value that is not a token"
  }
}
