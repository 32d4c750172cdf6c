#if SQLite
  import SluiceStreams
  import SluiceTopics

  /// How a file of topics is used.
  public struct SQLiteOptions: Sendable {
    /// When an append counts as stored.
    public enum Durability: Hashable, Sendable {
      /// When it is on the disk (`synchronous=FULL`): neither a killed process nor a machine that loses power loses it.
      case full
      /// When the system has it (`synchronous=NORMAL`): a killed process loses nothing, a machine that loses power the newest appends.
      case normal
    }
    /// What is done with the file.
    public enum Access: Hashable, Sendable {
      /// It is made if it is not there; topics are read and appended to.
      case readWrite
      /// It must be there, and nothing in it is changed: appending is refused. SQLite may still make `PATH-shm` and `PATH-wal` beside it. A topic that
      /// nobody has appended to is empty, and has a position that only this process knows.
      case readOnly
    }
    /// Default: `.readWrite`.
    public var access = Access.readWrite
    /// Default: `.full`.
    public var durability = Durability.full
    /// How long other processes may keep the file locked, before reading and appending fail with `TopicError.unavailable`. Default: 5 seconds.
    public var lockTimeout = Duration.seconds(5)
    /// How often it is looked for what other processes have appended, while somebody reads; this process' own appends are seen at once.
    /// 1 millisecond or more. Default: 20 milliseconds.
    public var pollInterval = Duration.milliseconds(20)
    /// Bytes that the file may have; an append that needs more is refused. What was trimmed is used again. nil, the default: as the disk has.
    public var maxFileBytes: Int?

    public init() {}
  }

  extension Topics {
    /// Topics in a file, for the processes of one machine: they survive their process.
    ///
    /// ```swift
    /// let rooms = try await Topics.sqlite("rooms.db")
    /// ```
    /// SQLite keeps `PATH-wal` and `PATH-shm` beside the file, and Sluice `PATH-life`, by which a file that was replaced with an older copy, while nobody had it
    /// open, is known as another: the positions of what the copy lacks are lost, and never mistaken. The file must be on a disk of the machine.
    /// - Parameter path: Made if it is not there, unless it is for reading only. A file that is something else is refused, and left as it is.
    /// - Throws: `TopicError.refused` for what is no file of topics, or may not be written; `TopicError.unavailable` if it is locked.
    public static func sqlite(
      _ path: String, sqlite: SQLiteOptions = SQLiteOptions(), options: TopicsOptions = TopicsOptions()
    ) async throws -> Topics {
      let engine = SQLiteTopicEngine(path, sqlite, options.observer)
      do { try await engine.check() } catch {
        await engine.close()
        throw error
      }
      return Topics(engine: engine, options: options)
    }
  }
#endif
