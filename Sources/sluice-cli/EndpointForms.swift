/// How an endpoint is written, and what it means: for the help text, and for messages.
struct EndpointForm {
  let form: String
  let meaning: String

  init(_ form: String, _ meaning: String) {
    self.form = form
    self.meaning = meaning
  }

  static let all = [
    EndpointForm("-", "standard input and output"),
    EndpointForm(
      "ws://HOST[:PORT][/PATH]", "a WebSocket; wss:// over TLS, ws+unix:SOCKET[:/PATH] over a Unix socket"),
    EndpointForm("tcp://HOST:PORT", "a TCP connection"),
    EndpointForm("tls://HOST:PORT", "a TLS connection"),
    EndpointForm("unix:PATH", "a Unix socket; unix:@NAME for an abstract one"),
    EndpointForm(
      "udp://HOST:PORT",
      "datagrams, each a message; unix-dgram:PATH over a Unix socket (to @NAME for an abstract one); unix-seqpacket:PATH: a connection that keeps messages (Linux)"
    ),
    EndpointForm("file:PATH", "a file: read as SOURCE, written as TARGET"),
    EndpointForm(
      "http://HOST[:PORT][/PATH]",
      "as SOURCE: the response to a request; as TARGET: a request whose body is what comes, and its response. https:// over TLS, http+unix:SOCKET[:/PATH] over a Unix socket"
    ),
    EndpointForm(
      "exec:COMMAND",
      "the standard input and output of a shell command; after a listening endpoint, its environment describes the connection, as in CGI"
    ),
    EndpointForm(
      "pty:COMMAND",
      "a shell command in a terminal of its own, for prompts and job control. With '-' on a terminal, that is passed through, with the size of its window"
    ),
    EndpointForm("tty:PATH", "a serial line, raw, at the speed of --baud"),
    EndpointForm("replay:FILE", "plays back what was recorded with --record, and drops what it is sent"),
    EndpointForm("echo:", "returns everything it receives"),
    EndpointForm("null:", "sends nothing, discards everything"),
    EndpointForm(
      "room:[NAME]",
      "as the TARGET of a listening endpoint: what one connection says, all in the room hear, itself too"),
    EndpointForm(
      "shared:ENDPOINT",
      "as the TARGET of a listening endpoint: one '-', exec:, tty:, ws:, tcp:, tls:, unix: or file: for all connections; each hears all that it gives"
    ),
    EndpointForm(
      "listen+ws://HOST:PORT[/PATH]", "serves WebSockets, each connected to a new TARGET; listen+wss:// over TLS"),
    EndpointForm(
      "listen+tcp://HOST:PORT",
      "serves TCP connections in the same way; with port 0 the system chooses one, printed on standard error"),
    EndpointForm("listen+tls://HOST:PORT", "serves TLS connections"),
    EndpointForm(
      "listen+udp://HOST:PORT",
      "serves datagrams: each address that sends some is connected to a new TARGET; listen+unix-dgram:PATH those of a Unix socket"
    ),
    EndpointForm(
      "listen+unix:PATH", "serves a Unix socket; listen+unix-seqpacket:PATH one that keeps messages (Linux)"),
    EndpointForm(
      "listen+[SCHEME+]fd:N[/PATH]",
      "serves a socket that sluice was started with, descriptor N or systemd's name for it: listen+fd: TCP or Unix, listen+tls+fd:, listen+ws+fd: and so on; a connection that was accepted already (inetd) is served alone"
    ),
    EndpointForm(
      "sse+http://HOST[:PORT][/PATH]",
      "as SOURCE: the events of an event stream (EventSource), read once, or continuously with --reconnect; sse+https:// over TLS"
    ),
    EndpointForm(
      "topic+sqlite:FILE/NAME",
      "a topic, a log with positions, in a file: read as SOURCE, appended to as TARGET. After listen+ws:, each client is joined to it: what one sends, all get; after listen+sse+http:, each client reads it, and resumes by Last-Event-ID; at a --route, both"
    ),
    EndpointForm(
      "topic+redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]/NAME",
      "the same on Redis, for any number of machines; topic+rediss:// over TLS, topic+redis+unix:SOCKET/NAME over a Unix socket"
    ),
    EndpointForm(
      "topic+nats://[USER:PASSWORD@]HOST[:PORT][,…]/NAME[?OPTIONS]",
      "the same on NATS with JetStream, or TOKEN@ instead of a user; topic+tls+nats:// over TLS. Options of the URL: credentials=FILE, replicas=N, storage=file or memory, prefix=TEXT, domain=NAME, with & between them"
    ),
    EndpointForm(
      "listen+sse+http://HOST:PORT[/PATH]",
      "as TARGET: sends each line of SOURCE as an event to all connected clients; listen+sse+https:// over TLS"),
  ]

  /// In one line.
  static var list: String { all.map(\.form).joined(separator: ", ") }

  /// What their names begin with, as far as it is the same for all of a form: for completions.
  static var prefixes: [String] {
    all.map { form in
      let fixed = form.form.prefix { !$0.isUppercase && $0 != "[" }
      return String(fixed)
    }
  }

  /// A column of forms beside one of meanings.
  static var table: String {
    let (indent, column, width) = ("  ", 23, 79)
    var lines: [String] = []
    for form in all {
      var words = form.meaning.split(separator: " ")[...]
      var line = indent + form.form
      if line.count + 2 > column {
        lines.append(line)
        line = ""
      }
      line += String(repeating: " ", count: column - line.count)
      var isFirst = true
      while let word = words.popFirst() {
        if !isFirst && line.count + 1 + word.count > width {
          lines.append(line)
          line = String(repeating: " ", count: column)
          isFirst = true
        }
        line += (isFirst ? "" : " ") + word
        isFirst = false
      }
      lines.append(line)
    }
    return lines.joined(separator: "\n")
  }
}
