#if NIO
  import HTTPTypes
  import Logging
  import NIOCore
  import NIOHTTP1
  import SluiceEventSource
  import SluiceHTTP
  import SluiceStreams

  /// Answers the requests for event streams in a SwiftNIO HTTP pipeline, and passes all others on. One for each channel.
  ///
  /// ```swift
  /// let feed = EventSourceHandler { events in try await events.send("hello") }
  /// try channel.pipeline.syncOperations.configureHTTPServerPipeline()
  /// try channel.pipeline.syncOperations.addHandlers(feed, page)
  /// ```
  /// The handler's task runs on the channel's event loop; the stream ends behind it, or when the server stops (`ChannelShouldQuiesceEvent`), and is cut when it
  /// throws. It is the last that its channel answers. When the channel is upgraded to another protocol, this leaves the pipeline by itself.
  public final class EventSourceHandler: ChannelInboundHandler, RemovableChannelHandler {
    public typealias InboundIn = HTTPServerRequestPart
    public typealias InboundOut = HTTPServerRequestPart
    public typealias OutboundOut = HTTPServerResponsePart

    private let options: EventSourceServerOptions
    private let logger: Logger
    private let isMeant: @Sendable (HTTPRequest) -> Bool
    private let handler: @Sendable (EventStreamConnection) async throws -> Void
    private var state = State.passing

    private enum State {
      /// Requests are somebody else's.
      case passing
      /// One is ours, whose end is to come.
      case requested(HTTPRequestHead)
      /// The application looks at it.
      case asking(Task<Void, Never>)
      case streaming(ChannelStream, EventStreamConnection)
      /// A request was answered without a stream; the channel is about to close.
      case answered
    }

    /// - Parameters:
    ///   - options: Of the streams.
    ///   - isMeant: Which requests to answer, if only to refuse them. Default: those that accept `text/event-stream` by name, whatever their path.
    public init(
      options: EventSourceServerOptions = EventSourceServerOptions(),
      logger: Logger = Logger(label: "sluice.eventsource.server"),
      answering isMeant: @escaping @Sendable (HTTPRequest) -> Bool = { EventSource.isEventSource($0) },
      _ handler: @escaping @Sendable (EventStreamConnection) async throws -> Void
    ) {
      self.options = options
      self.logger = logger
      self.isMeant = isMeant
      self.handler = handler
    }

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch (state, unwrapInboundIn(data)) {
      case (.passing, .head(let head)) where isMeant(head.request): state = .requested(head)
      case (.passing, _): context.fireChannelRead(data)
      case (.requested(let head), .end): answer(head, context)
      // Of a request that is refused for it, or of one behind the last that is answered.
      case (.requested, _), (.asking, _), (.streaming, _), (.answered, _): break
      }
    }

    /// In a task on the channel's loop: the application may take its time to look at the request.
    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
      let here = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
      let (options, eventLoop) = (options, context.eventLoop)
      let asking = Task(executorPreference: NIOLoop.of(context.eventLoop)) {
        let agreed: Result<EventSource.Agreement, any Error>
        do {
          let hasBody = try !BodyFraming(head.request.headerFields).isEmpty
          agreed = .success(try await EventSource.agree(to: head.request, hasBody: hasBody, options))
        } catch {
          agreed = .failure(error)
        }
        eventLoop.execute { here.value.handler.answer(head, agreed, here.value.context) }
      }
      state = .asking(asking)
    }

    private func answer(
      _ head: HTTPRequestHead, _ agreed: Result<EventSource.Agreement, any Error>, _ context: ChannelHandlerContext
    ) {
      guard case .asking = state else { return }
      do {
        switch try agreed.get() {
        case .head(let status, let fields):
          finish(with: [responseHead(head.version, HTTPResponseStatus(statusCode: status), fields)], context)
        case .stream(let fields):
          context.writeAndFlush(wrapOutboundOut(responseHead(head.version, .ok, fields)), promise: nil)
          do { try begin(head.request, fields, context) } catch {
            logger.error("event stream failed", metadata: ["error": "\(error)"])
            context.close(promise: nil)
          }
        }
      } catch {
        if !(error is RequestRejection) { logger.error("event stream failed", metadata: ["error": "\(error)"]) }
        let rejection = RequestRejection(thrown: error)
        options.observer?.didRefuse(status: rejection.status)
        finish(with: rejection.responseParts, context)
      }
    }

    private func responseHead(
      _ version: HTTPVersion, _ status: HTTPResponseStatus, _ fields: HTTPFields
    ) -> HTTPServerResponsePart {
      var fields = fields
      fields[.connection] = "close"
      return .head(HTTPResponseHead(version: version, status: status, headers: HTTPHeaders(fields)))
    }

    private func begin(_ request: HTTPRequest, _ fields: HTTPFields, _ context: ChannelHandlerContext) throws {
      let stream = ChannelStream(responseBodyFrom: context)
      // NIO's encoder writes the chunks.
      let events = try EventSource.open(request, fields, over: stream, isChunked: false, RequestContext(), options)
      state = .streaming(stream, events)
      let (handler, logger, peer) = (handler, logger, context.remoteAddress?.ipAddress ?? "unknown")
      events.servingTask = Task(executorPreference: stream.loop) { () async throws in
        await events.serve(logger: logger, peer: peer, handler)
      }
    }

    /// Writes all of an answer, and closes behind it.
    private func finish(with parts: [HTTPServerResponsePart], _ context: ChannelHandlerContext) {
      state = .answered
      for part in parts { context.write(wrapOutboundOut(part), promise: nil) }
      let written = context.eventLoop.makePromise(of: Void.self)
      let channel = context.channel
      written.futureResult.whenComplete { _ in channel.close(promise: nil) }
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
    }

    // MARK: what the stream is to know

    private var stream: ChannelStream? {
      if case .streaming(let stream, _) = state { stream } else { nil }
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
      stream?.didReadAll()
      context.fireChannelReadComplete()
    }

    public func channelWritabilityChanged(context: ChannelHandlerContext) {
      stream?.writabilityDidChange()
      context.fireChannelWritabilityChanged()
    }

    public func channelInactive(context: ChannelHandlerContext) {
      if case .asking(let task) = state {
        task.cancel()
        state = .answered
      }
      stream?.didBecomeInactive()
      context.fireChannelInactive()
    }

    public func errorCaught(context: ChannelHandlerContext, error: any Error) {
      stream?.fail(error)
      context.fireErrorCaught(error)
    }

    public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      // The server stops.
      if case .streaming(_, let events) = state, event is ChannelShouldQuiesceEvent { events.endForShutdown() }
      context.fireUserInboundEventTriggered(event)
      // What comes from now on are no requests.
      if event is HTTPServerUpgradeEvents {
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
      }
    }

    public func handlerRemoved(context: ChannelHandlerContext) {
      if case .asking(let task) = state {
        task.cancel()
        state = .answered
      }
      stream?.isRemoved()
    }
  }
#endif
