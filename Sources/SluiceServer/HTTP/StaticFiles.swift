import HTTPTypes
import SluiceHTTP
import SluiceIO
import SluiceStreams

import struct SystemPackage.FilePath

/// Where symbolic links in a folder that is served may lead.
public enum FileLinks: Sendable, Hashable {
  /// To the files of the folder itself. Each request asks the file system for the path behind all links.
  case withinFolder
  case anywhere
}

/// The files of a folder.
struct StaticFiles: Sendable {
  let folder: FilePath
  let links: FileLinks

  func respond(to request: ServerRequest) async throws -> ServerResponse {
    var path = try path(of: request.below)
    do {
      // The type is that of the name that was asked for.
      let type = Self.type(of: path)
      if links == .withinFolder { path = try await pathBehindLinks(path) }
      // Asked before it is opened: to open a named pipe would wait for whoever writes into it.
      let status = try await File.status(of: path)
      guard status.kind == .file else { throw Self.notFound }
      let file = try await File.open(path)
      var response = ServerResponse.stream(file, type: type, length: status.size)
      // The type is what it says, whatever the contents look like.
      response.fields[.xContentTypeOptions] = "nosniff"
      return response
    } catch let error as IOError {
      switch error.code {
      case "ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP": throw Self.notFound
      case "EACCES", "EPERM": throw RequestRejection(status: 403, reason: "permission denied")
      default: throw error
      }
    }
  }

  private func pathBehindLinks(_ path: FilePath) async throws -> FilePath {
    let folder = try await File.realPath(of: folder)
    var real = try await File.realPath(of: path)
    let found = real
    guard real.removePrefix(folder), !real.components.contains(where: { $0.string.utf8.begins(with: ".") }) else {
      throw Self.notFound
    }
    return found
  }

  /// A path never leads out of the folder, nor to what is hidden in it.
  /// - Parameter target: What stands for the route's `*`.
  func path(of target: String) throws(RequestRejection) -> FilePath {
    var path = folder
    var names = target.wire.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    if names.last?.isEmpty ?? true { names[names.count - 1] = "index.html".wire }
    for name in names {
      guard let bytes = PercentEncoding.decode(name), let decoded = String(validating: bytes, as: UTF8.self),
        let component = FilePath.Component(decoded), component.kind == .regular,
        !decoded.utf8.begins(with: "."), !decoded.utf8.contains(0), !decoded.utf8.contains(UInt8(ascii: "/"))
      else { throw Self.notFound }
      path.append(component)
    }
    return path
  }

  private static var notFound: RequestRejection {
    RequestRejection(status: 404, reason: "no such file")
  }

  private static func type(of path: FilePath) -> String {
    types[path.extension?.lowercasedASCII ?? ""] ?? "application/octet-stream"
  }

  private static let types = [
    "css": "text/css; charset=utf-8", "csv": "text/csv; charset=utf-8", "gif": "image/gif",
    "htm": "text/html; charset=utf-8", "html": "text/html; charset=utf-8", "ico": "image/x-icon",
    "jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "text/javascript; charset=utf-8", "json": "application/json",
    "md": "text/markdown; charset=utf-8", "mjs": "text/javascript; charset=utf-8", "mp3": "audio/mpeg",
    "mp4": "video/mp4", "pdf": "application/pdf", "png": "image/png", "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8", "wasm": "application/wasm", "webm": "video/webm", "webp": "image/webp",
    "woff2": "font/woff2", "xml": "application/xml", "zip": "application/zip",
  ]
}
