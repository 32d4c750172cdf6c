/// The words for the status codes that servers here answer with (RFC 9110 §15); empty for others, which is allowed.
package func reasonPhrase(forStatus code: Int) -> String {
  switch code {
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 426: "Upgrade Required"
  case 429: "Too Many Requests"
  case 431: "Request Header Fields Too Large"
  case 500: "Internal Server Error"
  case 503: "Service Unavailable"
  case 505: "HTTP Version Not Supported"
  default: ""
  }
}
