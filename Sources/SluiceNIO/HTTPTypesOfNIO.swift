#if NIO
  import HTTPTypes
  import NIOCore
  import NIOHTTP1
  import SluiceHTTP
  import SluiceStreams

  extension HTTPRequestHead {
    /// As the types that the server ecosystem shares.
    var request: HTTPRequest {
      var fields = HTTPFields()
      for (name, value) in headers where !name.utf8.equalsIgnoringCase("host") {
        if let name = HTTPField.Name(name) { fields.append(HTTPField(name: name, value: value)) }
      }
      return HTTPRequest(
        method: HTTPRequest.Method(method.rawValue) ?? .get, scheme: "http", authority: headers.first(name: "Host"),
        path: uri, headerFields: fields)
    }
  }

  extension HTTPHeaders {
    init(_ fields: HTTPFields) { self.init(fields.map { ($0.name.rawName, $0.value) }) }
  }

  extension RequestRejection {
    /// The answer up to its end, behind which the channel is to be closed.
    var responseParts: [HTTPServerResponsePart] {
      var headers = HTTPHeaders(fields)
      let body = ByteBuffer(string: reason + "\n")
      headers.replaceOrAdd(name: "Connection", value: "close")
      headers.replaceOrAdd(name: "Date", value: HTTPDate.now)
      headers.add(name: "Content-Type", value: "text/plain; charset=utf-8")
      headers.add(name: "Content-Length", value: String(body.readableBytes))
      let head = HTTPResponseHead(
        version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
      return [.head(head), .body(.byteBuffer(body))]
    }
  }
#endif
