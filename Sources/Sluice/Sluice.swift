// What `import Sluice` shows: the names that a program writes. Everything else is in the modules themselves: the polled gear and the loop's plumbing in
// SluiceStreams, frames and handshakes in SluiceWebSocketProtocol. A type that a program never names, as the cases of an option, needs no line.

// MARK: streams

@_exported import struct SluiceStreams.BridgeOptions
@_exported import struct SluiceStreams.Bytes
@_exported import struct SluiceStreams.BytesBuilder
@_exported import protocol SluiceStreams.DuplexStream
@_exported import struct SluiceStreams.JoinedStream
@_exported import protocol SluiceStreams.Loop
@_exported import class SluiceStreams.MemoryStream
@_exported import struct SluiceStreams.PipeOptions
@_exported import struct SluiceStreams.Readable
@_exported import protocol SluiceStreams.ReadableStream
@_exported import class SluiceStreams.ReconnectingStream
@_exported import protocol SluiceStreams.Transform
@_exported import struct SluiceStreams.TransformOutput
@_exported import struct SluiceStreams.Writable
@_exported import protocol SluiceStreams.WritableStream
@_exported import func SluiceStreams.bridge

// MARK: addresses, and what went wrong

@_exported import struct SluiceStreams.IOError
@_exported import struct SluiceStreams.IPAddress
@_exported import struct SluiceStreams.IPNetwork
@_exported import enum SluiceStreams.StreamError

// MARK: sockets, files, processes

@_exported import class SluiceIO.ChildProcess
@_exported import class SluiceIO.File
@_exported import class SluiceIO.Signals
@_exported import class SluiceIO.SocketStream
@_exported import struct SluiceIO.StandardIO
@_exported import class SluiceIO.StandardStream
@_exported import enum SluiceIO.TCP
@_exported import class SluiceIO.UVLoop
@_exported import enum SluiceIO.UnixSocket

@_exported import struct SystemPackage.FilePath

// MARK: TLS

@_exported import class SluiceTLS.TLSClientContext
@_exported import struct SluiceTLS.TLSClientOptions
@_exported import enum SluiceTLS.TLSError
@_exported import class SluiceTLS.TLSServerContext
@_exported import struct SluiceTLS.TLSServerOptions
@_exported import class SluiceTLS.TLSStream

// MARK: HTTP

@_exported import HTTPTypes
@_exported import struct SluiceHTTP.BasicCredentials
@_exported import struct SluiceHTTP.Headers
@_exported import struct SluiceHTTP.OriginPolicy
@_exported import struct SluiceHTTP.RequestRejection
@_exported import struct SluiceHTTP.URLError
@_exported import struct SluiceServer.HTTPRoute
@_exported import struct SluiceServer.HTTPServer
@_exported import struct SluiceServer.HTTPServerOptions
@_exported import struct SluiceServer.ListenOptions
@_exported import struct SluiceServer.ServerRequest
@_exported import struct SluiceServer.ServerResponse

// MARK: connecting

@_exported import enum SluiceClient.Connect
@_exported import enum SluiceClient.ConnectError
@_exported import struct SluiceClient.ConnectOptions
@_exported import struct SluiceClient.Origin
@_exported import struct SluiceClient.Proxy
@_exported import struct SluiceClient.ReconnectOptions

// MARK: WebSocket

@_exported import struct SluiceClient.WebSocketClientOptions
@_exported import struct SluiceServer.WebSocketServer
@_exported import struct SluiceServer.WebSocketServerOptions
@_exported import typealias SluiceWebSocket.Message
@_exported import struct SluiceWebSocket.Fragment
@_exported import class SluiceWebSocket.WebSocket
@_exported import typealias SluiceWebSocket.WebSocketBroadcast
@_exported import struct SluiceWebSocket.WebSocketAcceptance
@_exported import enum SluiceWebSocket.WebSocketConnectError
@_exported import class SluiceWebSocket.WebSocketDriver
@_exported import enum SluiceWebSocket.WebSocketError
@_exported import class SluiceWebSocket.WebSocketEvents
@_exported import struct SluiceWebSocket.WebSocketHandshakeOptions
@_exported import protocol SluiceWebSocket.WebSocketObserver
@_exported import struct SluiceWebSocket.WebSocketOptions
@_exported import struct SluiceWebSocket.WebSocketRequestOptions
@_exported import func SluiceWebSocket.bridge
@_exported import struct SluiceWebSocketProtocol.CloseCode
@_exported import struct SluiceWebSocketProtocol.PermessageDeflate
@_exported import protocol SluiceWebSocketProtocol.WebSocketExtension

// MARK: EventSource

@_exported import class SluiceClient.EventSourceClient
@_exported import struct SluiceClient.EventSourceClientOptions
@_exported import typealias SluiceEventSource.EventBroadcast
@_exported import enum SluiceEventSource.EventSource
@_exported import enum SluiceEventSource.EventSourceError
@_exported import protocol SluiceEventSource.EventSourceObserver
@_exported import struct SluiceEventSource.EventSourceServerOptions
@_exported import class SluiceEventSource.EventStreamConnection
@_exported import struct SluiceEventSource.ServerSentEvent
@_exported import struct SluiceServer.EventSourceServer
