@_exported import HTTPTypes
@_exported import SluiceClient
@_exported import SluiceEventSource
@_exported import SluiceHTTP
@_exported import SluiceIO
@_exported import SluiceServer
@_exported import SluiceStreams
@_exported import SluiceTLS
@_exported import SluiceWebSocket
@_exported import SluiceWebSocketProtocol

@_exported import struct SystemPackage.FilePath
