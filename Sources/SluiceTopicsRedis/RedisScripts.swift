#if Redis
  import SluiceStreams
  import Synchronization

  /// What is done at the server, each in one step that nobody comes between.
  ///
  /// KEYS: the stream, and a hash: `run` (the server's life that the current epoch belongs to), `epochs` (`NAME:FIRST:LAST`, the oldest first, the current
  /// one without a last), `last` (the newest number), `count` and `bytes` of all messages in the stream, `skip` (how many of the oldest entry's count as trimmed), and
  /// `oldest` (that entry's id, count, bytes and time). Numbers are below 2^53, so that Lua's are exact.
  ///
  /// What is appended together is one entry of the stream: its id is the number of its last message, `h` are its time, count and bytes, and each message is
  /// `t` (text) or `b` (binary), behind `e` if it has an event type. The server takes 0.7 us for a message of 256 so, and 2.4 us with an entry for each, as XADD
  /// itself does: most of what a message costs it is the call.
  enum RedisScripts {
    /// Begins an epoch where there is none, or where the last one belongs to another life of the server.
    /// Its numbers begin above all that the log ever had, also those that the server has forgotten, by the clock; and there is a gap before them, by which
    /// every reader notices.
    private static let common = """
      local log, meta = KEYS[1], KEYS[2]
      local run, fresh = ARGV[1], ARGV[2]
      local call = redis.call
      local function text(number) return string.format('%.0f', number) end
      local known = call('HMGET', meta, 'run', 'epochs', 'last', 'count', 'bytes', 'skip', 'oldest')
      local epochs, last = known[2], tonumber(known[3] or nil)
      local count, bytes, skip = tonumber(known[4] or '0'), tonumber(known[5] or '0'), tonumber(known[6] or '0')
      local oldest = known[7] ~= '' and known[7]
      local time = call('TIME')
      local now = time[1] * 1000 + math.floor(time[2] / 1000)
      local function begin()
        local first = now * 1024
        if epochs and last then
          if first < last + 2 then first = last + 2 end
          epochs = epochs .. ':' .. text(last) .. ' ' .. fresh .. ':' .. text(first)
          while #epochs > 4096 do epochs = string.gsub(epochs, '^[^ ]* ', '') end
        else
          call('DEL', log)
          epochs = fresh .. ':' .. text(first)
        end
        last = first - 1
      end
      -- Of an entry: its last number, count, bytes and time.
      local function describe(entry)
        local fields = entry[2]
        if fields[1] ~= 'h' then return nil end
        local stamp, n, b = string.match(fields[2], '^(%d+) (%d+) (%d+)$')
        local number = string.match(entry[1], '^(%d+)%-0$')
        if not stamp or not number then return nil end
        return number .. ' ' .. n .. ' ' .. b .. ' ' .. stamp
      end
      local function parts(description)
        local number, n, b, stamp = string.match(description, '^(%d+) (%d+) (%d+) (%d+)$')
        return tonumber(number), tonumber(n), tonumber(b), tonumber(stamp)
      end

      """

    /// Trims to limits: messages beyond the count, and whole entries beyond the bytes and the age; of the newest entry, messages beyond the
    /// bytes. The newest message stays.
    private static let trimming = """
      -- How many of an entry's newest messages are within a limit; one at least.
      local function fitting(number, maxBytes)
        local entry = call('XRANGE', log, text(number) .. '-0', '+', 'COUNT', 1)[1]
        local fields = entry and entry[2] or {}
        local field, fit, size = #fields - 1, 0, 0
        while field >= 3 do
          size = size + #fields[field + 1]
          field = field - 2
          if fields[field] == 'e' then
            size = size + #fields[field + 1]
            field = field - 2
          end
          if size > maxBytes then break end
          fit = fit + 1
        end
        return math.max(fit, 1)
      end
      local function trim(maxCount, maxBytes, maxAge)
        local cut = nil
        while oldest do
          local number, n, b, stamp = parts(oldest)
          local isBeyond = count - n >= maxCount or (maxBytes >= 0 and bytes > maxBytes) or (maxAge >= 0 and now - stamp > maxAge)
          if count <= n or not isBeyond then
            skip = math.max(skip, math.min(count - maxCount, n - 1))
            if count <= n and maxBytes >= 0 and bytes > maxBytes then skip = math.max(skip, n - fitting(number, maxBytes)) end
            break
          end
          cut, count, bytes, skip = number, count - n, bytes - b, 0
          local next = call('XRANGE', log, '(' .. text(number) .. '-0', '+', 'COUNT', 1)[1]
          oldest = next and describe(next)
        end
        if cut then call('XTRIM', log, 'MINID', text(cut + 1) .. '-0') end
      end
      local function keep()
        call('HSET', meta, 'run', run, 'epochs', epochs, 'last', text(last), 'count', text(count), 'bytes', text(bytes), 'skip', text(skip),
          'oldest', oldest or '')
      end

      """

    /// ARGV: run, a name for a new epoch, the writer's number of the first message, how many, their bytes, the limits (messages, bytes, milliseconds; -1: none), the
    /// seconds that the writer is remembered, and the fields of the messages. KEYS[3]: the writer's last number and where that message is.
    /// Gives the epochs, the newest number, and the number of the writer's newest message.
    static let append = RedisScript(
      name: "append",
      common + trimming + """
        local number, added, size = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
        local before = call('GET', KEYS[3])
        if before and epochs then
          local n, o = string.match(before, '^(%d+):(%d+)$')
          if number + added - 1 <= tonumber(n) then return {epochs, text(last), o} end
        end
        if known[1] ~= run or not last then begin() end
        if count == 0 then call('PERSIST', meta) end
        if call('XLEN', log) == 0 then count, bytes, skip, oldest = 0, 0, 0, nil end
        last, count, bytes = last + added, count + added, bytes + size
        local newest = text(last)
        local stamp = text(now)
        call('XADD', log, newest .. '-0', 'h', stamp .. ' ' .. ARGV[4] .. ' ' .. ARGV[5], unpack(ARGV, 10))
        if not oldest then oldest = newest .. ' ' .. ARGV[4] .. ' ' .. ARGV[5] .. ' ' .. stamp end
        call('SET', KEYS[3], text(number + added - 1) .. ':' .. newest, 'EX', ARGV[9])
        trim(tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]))
        keep()
        return {epochs, newest, newest}
        """)

    /// ARGV: run, a name for a new epoch, the number behind which is read, how many messages and bytes at the most.
    /// Gives the epochs, the newest number, that of the oldest message, and the entries; the first and the last one may have more than was asked for.
    static let read = RedisScript(
      name: "read",
      common + trimming + """
        if not last then
          begin()
          keep()
          -- Who reads what nobody writes leaves nothing for good.
          call('EXPIRE', meta, 86400)
        end
        local behind, maxCount, maxBytes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
        local earliest = ''
        if oldest and call('XLEN', log) > 0 then
          -- Somebody else may have trimmed it.
          local there = describe(call('XRANGE', log, '-', '+', 'COUNT', 1)[1])
          if there and there ~= oldest then oldest, skip = there, 0 end
          local number, n = parts(oldest)
          earliest = text(number - n + 1 + skip)
        end
        local entries, found, size, from, wanted = {}, 0, 0, behind .. '-0', 2
        while found < maxCount and size <= maxBytes and earliest ~= '' do
          local part = call('XRANGE', log, '(' .. from, '+', 'COUNT', wanted)
          for _, entry in ipairs(part) do
            local number, n, b = parts(describe(entry) or error('an entry that Sluice does not write'))
            if found >= maxCount or size > maxBytes then break end
            -- Of the first one, a part only may be wanted.
            found = found + math.min(n, number - tonumber(behind))
            size = size + b
            entries[#entries + 1] = entry
            from = entry[1]
          end
          if #part < wanted then break end
          wanted = math.max(1, math.min(64, math.ceil((maxCount - found) * #entries / found)))
        end
        return {epochs, text(last), earliest, entries}
        """)

    /// ARGV: run, a name for a new epoch, and the limits. Gives how many messages are gone.
    static let trim = RedisScript(
      name: "trim",
      common + trimming + """
        if not last or count == 0 then return 0 end
        local before = count - skip
        trim(tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
        run = known[1]
        keep()
        return before - (count - skip)
        """)
  }

  final class RedisScript: Sendable {
    let name: String
    let source: String
    /// Which the server names it by.
    let hash = Mutex<Bytes?>(nil)

    init(name: String, _ source: String) {
      self.name = name
      self.source = source
    }
  }
#endif
