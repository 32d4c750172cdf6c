/// What other tools (websocat, curl, socat, ncat) call what this one has too: whoever types it is told the name here.
enum ForeignNames {
  /// - Returns: what to write instead; nil for an option that no other tool has either.
  static func advice(onOption word: String) -> String? {
    options[String(word.prefix { $0 != "=" })]
  }

  private static let options = [
    "-H": "--header 'NAME: VALUE'", "-b": "--binary", "-t": "--text", "-k": "--insecure", "-1": "--one-message",
    "-n": "--on-end defer", "-E": "--on-end close-both", "-u": "--basic-auth USER:PASSWORD, or --no-input",
    "-U": "'-' as SOURCE: sluice - ws://…", "-0": "--null", "-x": "--proxy URL", "-L": "--follow-redirects N",
    "-d": "--data TEXT", "-m": "--connect-timeout SECONDS", "-l": "listen+tcp://HOST:PORT as SOURCE",
    "-s": "listen+ws://127.0.0.1:PORT as SOURCE", "-p": "the port in the endpoint's URL",
    "-X": "--method NAME", "-N": "nothing: output is not buffered", "-e": "exec:COMMAND as TARGET",
    "-w": "--connect-timeout SECONDS", "-T": "--half-close-timeout SECONDS, or --quiet-after SECONDS",
    "--origin": "--header 'Origin: https://…'", "--user-agent": "--header 'User-Agent: …'",
    "--ping-interval": "--ping SECONDS", "--ping-timeout": "--ping SECONDS", "--exit-on-eof": "--on-end close-both",
    "--no-close": "--on-end defer", "--unidirectional": "--no-input", "--unidirectional-reverse": "'-' as SOURCE",
    "--server-mode": "listen+ws://127.0.0.1:PORT as SOURCE", "--listen": "listen+tcp://HOST:PORT as SOURCE",
    "--oneshot": "'-' as TARGET, which one connection gets", "--cacert": "--ca FILE", "--ssl": "wss:// or tls://",
    "--user": "--basic-auth USER:PASSWORD", "--location": "--follow-redirects N",
    "--request": "--method NAME", "--data-binary": "--data @FILE", "--data-raw": "--data TEXT",
    "--head": "--method HEAD --verbose",
    "-I": "--method HEAD --verbose", "-o": "file:FILE as TARGET", "--output": "file:FILE as TARGET",
    "--upload-file": "file:FILE as SOURCE: sluice --method PUT file:FILE http://…",
    "--unix-socket": "http+unix:SOCKET:/PATH, or ws+unix:SOCKET:/PATH, as endpoint",
    "--max-time": "--quiet-after SECONDS", "--no-buffer": "nothing: output is not buffered",
    "--ws-c-uri": "ws://HOST:PORT/PATH as endpoint", "--server-protocol": "--protocol NAME",
    "--socks5": "--proxy socks5://HOST:PORT",
    "--basic-auth-file": "SLUICE_BASIC_AUTH in the environment", "--autoreconnect": "--reconnect",
    "--buffer-size": "--max-message BYTES", "--compress-zlib": "--compress", "--sh-c": "exec:COMMAND as endpoint",
    "--exec": "exec:COMMAND as TARGET", "--sub-protocol": "--protocol NAME", "--subprotocol": "--protocol NAME",
    "--tls-domain": "--sni NAME", "--servername": "--sni NAME", "--pkcs12-der": "--cert FILE and --key FILE, in PEM",
    "--static-file": "--files /PATH=FOLDER", "-F": "--files /PATH=FOLDER", "--broadcast": "room: as TARGET",
    "--inetd": "listen+ws+fd:0, or listen+fd:0, as SOURCE", "--accept-fd": "listen+fd:N as SOURCE",
    "--chmod": "--socket-mode MODE", "--tee": "--log FILE, or --record FILE", "--dump": "--log FILE",
    "--replay": "replay:FILE as endpoint",
    "--keep-open": "listen+tcp://HOST:PORT with a TARGET other than '-'", "--max-conns": "--max-connections N",
    "--restrict-uri": "the path in listen+ws://HOST:PORT/PATH",
  ]

  /// - Parameters:
  ///   - scheme: In lower case.
  ///   - rest: What stands behind its colon, of which the endpoint here is made.
  /// - Returns: the endpoint that is meant; nil for a scheme that no other tool has either.
  static func endpoint(_ scheme: String, _ rest: String) -> String? {
    // socat's options stand behind commas.
    let place = String(rest.prefix { $0 != "," })
    let address = place.hasPrefix("//") ? String(place.dropFirst(2)) : place
    let listening = address.contains(":") ? address : "127.0.0.1:" + (address.isEmpty ? "PORT" : address)
    switch scheme {
    case "tcp-l", "tcp-listen", "tcp4-l", "tcp4-listen", "l-tcp", "listen-tcp", "tcplisten":
      return "listen+tcp://\(listening)"
    case "tcp6-l", "tcp6-listen": return "listen+tcp://[::]:\(address.isEmpty ? "PORT" : address)"
    case "ws-l", "ws-listen", "l-ws", "listen-ws", "ws-u", "wslisten": return "listen+ws://\(listening)"
    case "wss-l", "wss-listen", "l-wss", "listen-wss": return "listen+wss://\(listening)"
    case "openssl-listen", "ssl-l", "openssl-l", "tls-l", "tls-listen", "ssl-listen": return "listen+tls://\(listening)"
    case "openssl", "ssl", "tls-connect", "openssl-connect", "tls-c": return "tls://\(address)"
    case "tcp-connect", "tcp4", "tcp6", "tcp4-connect", "tcp6-connect", "tcp-c", "connect-tcp":
      return "tcp://\(address)"
    case "ws-c", "ws-connect": return "ws://\(address)"
    case "unix-l", "unix-listen", "l-unix", "abstract-listen", "listen-unix":
      return "listen+unix:\(scheme.hasPrefix("abstract") ? "@" : "")\(place)"
    case "accept-fd", "systemd", "l-systemd", "sd-listen": return "listen+fd:\(place.isEmpty ? "3" : place)"
    case "unix-connect", "unix-client", "unix-c", "connect-unix": return "unix:\(place)"
    case "abstract-connect", "abstract-client", "abstract": return "unix:@\(place)"
    case "sh-c", "system", "cmd", "shell": return "exec:\(rest)"
    case "open", "create", "gopen", "readfile", "writefile": return "file:\(place)"
    case "appendfile": return "--append file:\(place)"
    case "stdio", "stdin", "stdout", "asyncstdio", "inetd", "threadedstdio": return "-"
    case "mirror": return "echo:"
    case "broadcast", "chat": return "room:"
    case "reuse", "reuse-raw", "broadcast-raw": return "shared:\(rest.isEmpty ? "ENDPOINT" : rest)"
    case "autoreconnect": return "--reconnect \(rest)"
    case "literal", "literalreply": return "exec:'echo …'"
    case "clogged", "empty", "devnull": return "null:"
    case "sse", "eventsource", "events": return "sse+http://\(address)"
    case "redis", "nats": return "topic+\(scheme)://\(address)"
    default: return nil
    }
  }
}
