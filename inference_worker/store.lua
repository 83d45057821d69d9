-- Writes one micro-batch of one shard, atomically and exactly once in effect.
--
-- KEYS[1]  the shard's counters key (its hash tag routes the call; every other key shares the tag)
-- KEYS[2]  a key that never is, so that no call runs while the shard moves between nodes (see script.py)
-- ARGV[1]  key prefix `{namespace:shard}`
-- ARGV[2]  MessagePack of {entries, announced, worker}: minute since the epoch → topic → what the posts of the call add
--          to it if all of them are new; who calls, or ''. Entries are positional:
--            post        {1, id, revision, partition, offset, timestamp_ms, run, created_ms as text, topics, blob,
--                         thumbnails, author or nil}
--            deletion    {2, id, revision, partition, offset, timestamp_ms, run}
--            dead letter {3, key, revision, partition, offset, timestamp_ms, run, blob, author or nil}
--            author gone {4, author, cursor, partition, offset, timestamp_ms, run, counts here, posts per step}
--            withdrawn   {5, id, revision, partition, offset, timestamp_ms, run}: a post that was not scored, as its
--                         receipt, its deletion (then the next entry of this id) or its author's made that useless
--            amendment   {6, id, share, topics, old blob, new blob, correction blob or nil}: a person's change of a
--                         post; refused (`changed`) unless the post still reads as the old blob
--            shed        {8, … as a post}: one that is counted without having been scored; its blob is empty
--            handled     {7, key, outcome, partition, offset, timestamp_ms, run, old blob, new blob or nil, is released}:
--                         a dead letter that somebody sent again (then the new blob says so) or dropped, counted as
--                         `outcome`; refused (`changed`) unless it still reads as the old blob. Released: it will be
--                         settled in another shard, and counts here no more
-- ARGV[3]  seconds rollups and runs live after their last write; 0: for ever
-- ARGV[4]  seconds a post's text and thumbnails live; 0: for ever
-- ARGV[5]  entries the results stream keeps; 0: all
-- ARGV[6]  posts a topic's tail keeps
-- ARGV[7…] the entries' blobs (cmsgpack knows no byte strings): `blob` is the index of the packed prediction or dead
--          letter; a post's receipt, packed up to its result, and its `thumbnails` JPEGs follow it
-- Returns  one outcome per entry, in order, and the number of the worker's call, if it has a name. A number, of `author
--          gone`: not done, call again with it as the cursor.
--
-- A receipt without a result is of a post that was shed: its share is counted, and nothing else is kept of it.
--
-- A receipt remembers what a post has added to the rollups and the last Kafka position seen of it. Records of one
-- key arrive in order, so a position at or before it, in the same partition and not written later, is a redelivery
-- (the time stamp tells a recreated topic, whose offsets start again at 0). A tombstone is a receipt without a share.
--
-- An author's deletion takes the posts whose receipt stands before it in its own partition, and leaves a mark that
-- stops those which were still being scored; each tombstone keeps its own position, so that no record goes uncounted.
--
-- Nearly all posts are new, and the store has one core: their shares come summed and their receipts packed, both are
-- unpacked only for what turns out otherwise, sorted sets take many members at once, and numbers which Redis wants as
-- text are text from the start (Lua's own formatting of one costs as much as a GET).
local call = redis.call
local prefix = ARGV[1]
local entries, announced, worker = unpack(cmsgpack.unpack(ARGV[2]))
-- The first write of all: a Redis that is full refuses this, and with it everything.
local number = worker ~= '' and call('INCR', prefix .. ':calls:' .. worker)
if number == 1 then call('EXPIRE', prefix .. ':calls:' .. worker, 86400) end -- the worker's marks renew it
local rollup_ttl, post_ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local results_kept, tail_kept = tonumber(ARGV[5]), tonumber(ARGV[6])

local POST, DELETION, LETTER, AUTHOR_GONE, WITHDRAWN, AMENDMENT, HANDLED, SHED = 1, 2, 3, 4, 5, 6, 7, 8
local DAYS_SPAN = 2764800
local LEVELS = { { 'minute', 60, 3600 }, { 'hour', 3600, 86400 }, { 'day', 86400, DAYS_SPAN } }
-- fields of a receipt, and of an author's mark (which has the first four only, and `counted` in place of a revision)
local REVISION, PARTITION, OFFSET, TIMESTAMP, CREATED, SHARE, TOPICS, RESULT, AUTHOR = 1, 2, 3, 4, 5, 6, 7, 8, 9
-- A post comes at most this much later than its deletion: no source looks back further.
local LOOK_BACK = 172800
-- Places in a share: all posts that were scored, and those that were not.
local SCORED_POSTS, SHED_POSTS = 1, 19
-- Lua's stack holds 8,000 arguments of a call.
local MOST_ARGUMENTS = 4000
-- One write in so many drops what has expired from its author's index.
local PRUNED_EVERY = 16

local now, microseconds = unpack(call('TIME'))
local now_s = tonumber(now)
local now_ms = 1000 * now_s + math.floor(tonumber(microseconds) / 1000)
local outcomes, runs, sums, grown, receipts, is_old = {}, {}, {}, {}, {}, {}
local marks, listed, tails, posts, lives, withdrawn, watermark = {}, {}, {}, {}, {}, {}, 0

-- Seconds from now → that moment in milliseconds as text: what Redis keeps of an expiry, and its quickest to take.
local deadlines = setmetatable({}, {
  __index = function(known, ttl)
    known[ttl] = string.format('%d', now_ms + 1000 * ttl)
    return known[ttl]
  end,
})

local function set(key, value, ttl)
  if ttl > 0 then call('SET', key, value, 'PXAT', deadlines[ttl]) else call('SET', key, value) end
end

-- A command with as many arguments as Lua's stack allows, until all are through.
local function call_with_all(arguments, each_call)
  for first = 1, #arguments, MOST_ARGUMENTS do
    each_call(first, unpack(arguments, first, math.min(first + MOST_ARGUMENTS - 1, #arguments)))
  end
end

-- The value of each key, or false.
local function get_all(keys)
  local values = {}
  call_with_all(keys, function(first, ...)
    for i, value in ipairs(call('MGET', ...)) do values[first + i - 1] = value end
  end)
  return values
end

local function expire(key, ttl)
  if ttl > 0 then call('PEXPIREAT', key, deadlines[ttl]) end
end

local function tally(run, name, n)
  local counts = runs[run]
  if not counts then
    counts = {}
    runs[run] = counts
  end
  counts[name] = (counts[name] or 0) + (n or 1)
end

local function count(run, outcome)
  tally(run, outcome)
  outcomes[#outcomes + 1] = outcome
end

-- Number → key up to what follows it.
local function stems(name)
  return setmetatable({}, {
    __index = function(made, number)
      made[number] = prefix .. name .. string.format('%d', number) .. ':'
      return made[number]
    end,
  })
end

local RECEIPT, TAIL, AUTHOR_INDEX = prefix .. ':receipt:', prefix .. ':tail:', prefix .. ':author:'
local RESULTS, POSTS, FORGOTTEN = prefix .. ':results', stems(':posts:'), stems(':forgotten:')
local LETTERS = prefix .. ':dead-letters'

-- Where an entry's record stands: the field of its dead letter, if it has become one.
local function place_of(entry)
  return string.format('%d:%d:%d', entry[4], entry[5], entry[6])
end

-- Time stamp and offset of the latest of all dead letters. Nearly every record comes after it: no need to look further.
local LAST_LETTER = prefix .. ':last-letter'
local last_letter = call('GET', LAST_LETTER)
last_letter = last_letter and cmsgpack.unpack(last_letter) or { -1, -1 }

local function may_be_letter(entry)
  return entry[6] < last_letter[1] or (entry[6] == last_letter[1] and entry[5] <= last_letter[2])
end

-- Where a topic's posts of the hour of an event time are listed.
local function posts_of(created_ms, topic)
  return POSTS[math.floor(created_ms / 3600000)] .. topic
end

-- The entry stands at or before a receipt's (or mark's) position.
local function is_behind(entry, receipt)
  return entry[4] == receipt[PARTITION] and entry[5] <= receipt[OFFSET] and entry[6] <= receipt[TIMESTAMP]
end

-- `packed`: as it was before the call, or false; nil where nobody looked.
local function receipt_of(id, packed)
  if packed == nil then packed = call('GET', RECEIPT .. id) end
  packed = receipts[id] or packed
  return packed and cmsgpack.unpack(packed)
end

-- A receipt outlives every rollup its post entered: the last of them has its last write when its span is over.
local function receipt_ttl(created_ms)
  if rollup_ttl == 0 then return 0 end
  if not created_ms then return math.min(rollup_ttl, LOOK_BACK) end -- entered nothing
  local span_end = (math.floor(created_ms / 1000 / DAYS_SPAN) + 1) * DAYS_SPAN
  return rollup_ttl + math.min(math.max(span_end - now_s, 0), DAYS_SPAN)
end

-- Enters a post or a dead letter into its author's index.
local function index(author, id, offset)
  local key, ttl = AUTHOR_INDEX .. author, rollup_ttl + DAYS_SPAN
  call('ZADD', key, now, id)
  if rollup_ttl == 0 then return end
  if offset % PRUNED_EVERY == 0 then call('ZREMRANGEBYSCORE', key, '-inf', now_s - ttl) end -- their receipts have expired
  call('PEXPIREAT', key, deadlines[ttl])
end

-- Writes the receipt a record leaves.
local function remember(id, packed, created_ms)
  receipts[id] = packed
  set(RECEIPT .. id, packed, receipt_ttl(created_ms))
end

local function keep(id, receipt)
  if not receipts[id] then is_old[id] = true end -- its share is not of this call
  remember(id, cmsgpack.pack(receipt), receipt[CREATED])
  if receipt[SHARE] and receipt[AUTHOR] then index(receipt[AUTHOR], id, receipt[OFFSET]) end
end

-- Calls visit(key without topic, field) for the bucket of each level an event time falls into.
local function each_bucket(created_ms, visit)
  local created_s = math.floor(created_ms / 1000)
  for _, level in ipairs(LEVELS) do
    visit(
      prefix .. ':' .. level[1] .. ':' .. string.format('%d', math.floor(created_s / level[3])) .. ':',
      string.format('%d', math.floor((created_s % level[3]) / level[2]))
    )
  end
end

local function add(vector, share, sign)
  for i = 1, #share do vector[i] = (vector[i] or 0) + sign * share[i] end
end

-- Changes a bucket by `sign` times a share, at the end of the call.
local function change(key, field, share, sign)
  local buckets = sums[key]
  if not buckets then
    buckets = {}
    sums[key] = buckets
  end
  if buckets[field] or sign < 0 then
    buckets[field] = buckets[field] or {}
    add(buckets[field], share, sign)
  else
    buckets[field] = { unpack(share) } -- a quarter of the time of adding to nothing
  end
end

-- Adds `sign` times a share to the rollups of its topics, where `stands(key, field, stem)`.
local function add_share(share, created_ms, topics, sign, stands)
  each_bucket(created_ms, function(stem, field)
    for _, topic in ipairs(topics) do
      local key = stem .. topic
      if stands(key, field, stem) then change(key, field, share, sign) end
    end
  end)
end

local function has_bucket(key, field) return call('HEXISTS', key, field) == 1 end
local function always() return true end

local function has_share(entry) return entry[1] == POST or entry[1] == SHED end

-- A post that is not written takes its share out of what was announced.
local function withhold(entry)
  local receipt = cmsgpack.unpack(ARGV[entry[10] + 1] .. cmsgpack.pack(nil, nil))
  local vectors = announced[math.floor(receipt[CREATED] / 60000)]
  for _, topic in ipairs(receipt[TOPICS]) do add(vectors[topic], receipt[SHARE], -1) end
end

local function add_announced()
  for minute, vectors in pairs(announced) do
    each_bucket(minute * 60000, function(stem, field)
      for topic, vector in pairs(vectors) do
        if (vector[SCORED_POSTS] or 0) > 0 or (vector[SHED_POSTS] or 0) > 0 then
          change(stem .. topic, field, vector, 1)
          grown[stem .. topic] = true
        end
      end
    end)
  end
end

local function write_sums()
  for key, buckets in pairs(sums) do
    for field, vector in pairs(buckets) do
      local packed = call('HGET', key, field)
      if packed then
        local old = cmsgpack.unpack(packed)
        for i = 1, math.max(#old, #vector) do vector[i] = (vector[i] or 0) + (old[i] or 0) end
      end
      local length = #vector
      while length > 0 and vector[length] == 0 do -- what nobody counts takes no room
        vector[length] = nil
        length = length - 1
      end
      if length == 0 then
        call('HDEL', key, field) -- the last post left: as if it had never been
      else
        call('HSET', key, field, cmsgpack.pack(vector))
      end
    end
    if grown[key] then expire(key, rollup_ttl) end -- being forgotten prolongs nothing
  end
end

-- Enters a post into the tails of its topics and the posts of its hour, together with others.
local function list(id, created_ms, score, topics)
  local hour = math.floor(created_ms / 3600000)
  local lists = listed[hour]
  if not lists then
    lists = {}
    listed[hour] = lists
  end
  for _, topic in ipairs(topics) do
    local members = lists[topic]
    if not members then
      members = {}
      lists[topic] = members
    end
    local n = #members
    members[n + 1], members[n + 2] = score, id
  end
end

local function write_lists()
  for hour, lists in pairs(listed) do
    for topic, members in pairs(lists) do
      local key = POSTS[hour] .. topic
      call_with_all(members, function(_, ...)
        call('ZADD', TAIL .. topic, ...)
        call('ZADD', key, ...)
      end)
      tails[topic] = true
      posts[key] = true
    end
  end
  listed = {}
end

local function unlist(id, created_ms, topics)
  write_lists() -- it may be in there
  for _, topic in ipairs(topics) do
    call('ZREM', TAIL .. topic, id)
    call('ZREM', posts_of(created_ms, topic), id)
  end
end

-- Takes what a receipt stands for out of rollups, tails, results and its author's posts.
local function take_back(id, receipt)
  local is_of_this_call = receipts[id] and not is_old[id]
  -- nothing is taken from a bucket that has expired
  add_share(receipt[SHARE], receipt[CREATED], receipt[TOPICS], -1, is_of_this_call and always or has_bucket)
  if receipt[RESULT] then
    unlist(id, receipt[CREATED], receipt[TOPICS])
    call('XDEL', RESULTS, receipt[RESULT])
  end
  if receipt[AUTHOR] then call('ZREM', AUTHOR_INDEX .. receipt[AUTHOR], id) end
end

local function write_post(entry, receipt)
  local id, score, topics, blob, author = entry[2], entry[8], entry[9], entry[10], entry[12]
  local created_ms, prediction = tonumber(score), ARGV[blob]
  if receipt then take_back(id, receipt) end
  list(id, created_ms, score, topics)
  set(prefix .. ':post:' .. id, prediction, post_ttl)
  local thumbnails = prefix .. ':thumbs:' .. id
  if receipt then call('DEL', thumbnails) end
  for number = 1, entry[11] do call('HSET', thumbnails, number - 1, ARGV[blob + 1 + number]) end
  if entry[11] > 0 then expire(thumbnails, post_ttl) end
  local result
  if results_kept > 0 then
    result = call('XADD', RESULTS, 'MAXLEN', '~', ARGV[5], '*', 'p', prediction)
  else
    result = call('XADD', RESULTS, '*', 'p', prediction)
  end
  watermark = math.max(watermark, created_ms)
  is_old[id] = nil
  remember(id, ARGV[blob + 1] .. cmsgpack.pack(result, author), created_ms)
  if author then index(author, id, entry[5]) end
end

local function write_shed(entry, receipt)
  local id, score, blob, author = entry[2], entry[8], entry[10], entry[12]
  local created_ms = tonumber(score)
  if receipt then take_back(id, receipt) end
  for _, topic in ipairs(entry[9]) do tails[topic] = true end -- it is a topic, though it may list no post
  watermark = math.max(watermark, created_ms)
  is_old[id] = nil
  remember(id, ARGV[blob + 1] .. cmsgpack.pack(false, author), created_ms)
  if author then index(author, id, entry[5]) end
end

-- Takes a post out of everything and returns its tombstone.
local function erase(id, receipt)
  local created_ms
  if receipt then
    created_ms = receipt[CREATED]
    if receipt[SHARE] then take_back(id, receipt) end
  end
  call('DEL', prefix .. ':post:' .. id, prefix .. ':thumbs:' .. id)
  call('DEL', prefix .. ':corrections:' .. id)
  call('SREM', prefix .. ':corrected', id)
  return { receipt and receipt[REVISION] or 0, 0, 0, 0, created_ms }
end

-- Nothing is left of a letter but that there was one: should its record be settled yet, it is to be counted once.
local function forget_letter(place)
  if call('HEXISTS', LETTERS, place) == 1 then call('HSET', LETTERS, place, '') end
end

-- Takes a post's dead letters before the entry out, of one partition or of all; returns how many there ever were and
-- how many are left. Their places stay known, so that none is counted again.
local function erase_letters(entry, id, partition)
  local places, left = call('SMEMBERS', prefix .. ':letters:' .. id), 0
  for _, place in ipairs(places) do
    local of, offset, timestamp = place:match('(%d+):(%d+):(%d+)')
    local letter = { 0, tonumber(of), tonumber(offset), tonumber(timestamp) }
    if is_behind(entry, letter) or (partition and partition ~= letter[PARTITION]) then
      left = left + 1
    else
      forget_letter(place)
    end
  end
  return #places, left
end

-- The author's deletion stands later than the entry in the same partition, and came first.
local function is_forgotten(entry, author)
  if not author then return false end
  local mark = marks[FORGOTTEN[entry[4]] .. author]
  return mark and is_behind(entry, mark)
end

-- Returns the outcome and, unless a post was written, the receipt it leaves, if any.
local function apply(entry, receipt)
  local kind, id, revision = entry[1], entry[2], entry[3]
  local is_tombstone = receipt and not receipt[SHARE]
  if kind == DELETION then
    local letters = erase_letters(entry, id)
    local is_repeated = is_tombstone and not withdrawn[id]
    local is_known = receipt or letters > 0
    return is_repeated and 'duplicates' or is_known and 'deletions' or 'unseen', erase(id, receipt)
  elseif kind == WITHDRAWN then
    withdrawn[id] = true
    local is_same = receipt and not is_tombstone and revision == receipt[REVISION]
    return is_same and 'duplicates' or 'stale', receipt or { revision }
  elseif not receipt then
    if is_forgotten(entry, entry[12]) then return 'stale', { revision } end
    if kind == SHED then
      write_shed(entry, nil)
      return 'shed'
    end
    write_post(entry, nil)
    return 'scored'
  elseif is_tombstone or revision < receipt[REVISION] then
    return 'stale', receipt
  elseif revision == receipt[REVISION] then
    return 'duplicates', receipt
  end
  if kind == SHED then
    if receipt[RESULT] then return 'stale', receipt end -- it stays scored, without its late pictures
    write_shed(entry, receipt)
    return 'edits'
  end
  write_post(entry, receipt)
  return receipt[RESULT] and 'edits' or 'scored'
end

-- A record that was set aside and comes again, sent anew or redelivered, is a dead letter no more. One that can change
-- nothing any more stays counted as one.
local function settle(entry, packed)
  local id, run = entry[2], entry[7]
  local was_letter = may_be_letter(entry) and call('HDEL', LETTERS, place_of(entry)) == 1
  local receipt = receipt_of(id, packed)
  if receipt and is_behind(entry, receipt) then
    if has_share(entry) then withhold(entry) end
    return count(run, 'redelivered')
  end
  local outcome
  outcome, receipt = apply(entry, receipt)
  if receipt then
    if has_share(entry) then withhold(entry) end
    receipt[PARTITION], receipt[OFFSET], receipt[TIMESTAMP] = entry[4], entry[5], entry[6]
    keep(id, receipt)
  end
  if was_letter then tally(run, 'dead_letters', -1) end
  count(run, outcome)
  if outcome == 'unseen' then tally(run, 'deletions') end -- where records end; `unseen` only says how it went
end

local function bury(entry, packed)
  local id, run, author = entry[2], entry[7], entry[9]
  local place, places, receipt = place_of(entry), prefix .. ':letters:' .. id, receipt_of(id, packed)
  if receipt and is_behind(entry, receipt) and call('SISMEMBER', places, place) == 0 then
    return count(run, 'redelivered') -- it was scored before
  end
  if call('SADD', places, place) == 0 then
    -- what it failed of last is told, unless it was taken out meanwhile
    local old = call('HGET', LETTERS, place)
    if old and old ~= '' then call('HSET', LETTERS, place, ARGV[entry[8]]) end
    return count(run, 'redelivered')
  end
  expire(places, rollup_ttl)
  local is_gone = is_forgotten(entry, author)
  call('HSET', LETTERS, place, is_gone and '' or ARGV[entry[8]])
  expire(LETTERS, rollup_ttl)
  if not may_be_letter(entry) then last_letter = { entry[6], entry[5] } end
  set(LAST_LETTER, cmsgpack.pack(last_letter), rollup_ttl)
  if author and not is_gone then index(author, id, entry[5]) end
  count(run, 'dead_letters')
end

-- The worker may have been quicker: then the letter reads otherwise, or is gone, though its record was sent.
local function handle(entry)
  local place, outcome, run = place_of(entry), entry[3], entry[7]
  local is_same = call('HGET', LETTERS, place) == ARGV[entry[8]]
  if is_same and entry[10] then
    call('HDEL', LETTERS, place)
    call('SREM', prefix .. ':letters:' .. entry[2], place)
    tally(run, 'dead_letters', -1)
  elseif is_same and entry[9] then
    call('HSET', LETTERS, place, ARGV[entry[9]])
  elseif is_same then
    forget_letter(place)
  end
  if is_same or outcome == 'retried' then tally(run, outcome) end
  outcomes[#outcomes + 1] = is_same and outcome or 'changed'
end

-- An author's mark matters only while Kafka may still deliver what came before it.
local function mark_ttl()
  if rollup_ttl == 0 or post_ttl == 0 then return rollup_ttl end
  return math.min(rollup_ttl, math.max(post_ttl, LOOK_BACK))
end

local function forget_post(entry, id)
  local receipt = receipt_of(id)
  local _, left = erase_letters(entry, id, entry[4])
  if not (receipt and receipt[SHARE]) then
    if left == 0 then call('ZREM', AUTHOR_INDEX .. entry[2], id) end
  elseif receipt[PARTITION] == entry[4] and not is_behind(entry, receipt) then
    local tombstone = erase(id, receipt)
    tombstone[PARTITION], tombstone[OFFSET], tombstone[TIMESTAMP] = receipt[PARTITION], receipt[OFFSET], receipt[TIMESTAMP]
    keep(id, tombstone)
    tally(entry[7], 'forgotten')
  end
end

-- One step through an author's posts. ZSCAN returns whatever is there from the first step to the last, so that
-- writes between two steps do no harm.
local function forget(entry)
  local author, run = entry[2], entry[7]
  local key = FORGOTTEN[entry[4]] .. author
  local packed = call('GET', key)
  local mark = packed and cmsgpack.unpack(packed)
  if not (mark and is_behind(entry, mark)) then
    mark = { 0, entry[4], entry[5], entry[6] }
    set(key, cmsgpack.pack(mark), mark_ttl())
  end
  marks[key] = mark
  local scanned = call('ZSCAN', AUTHOR_INDEX .. author, entry[3], 'COUNT', entry[9])
  for i = 1, #scanned[2], 2 do forget_post(entry, scanned[2][i]) end
  if scanned[1] ~= '0' then
    outcomes[#outcomes + 1] = scanned[1]
  elseif not entry[8] then
    outcomes[#outcomes + 1] = 'counted elsewhere'
  elseif mark[REVISION] == 0 and mark[OFFSET] == entry[5] and mark[TIMESTAMP] == entry[6] then
    mark[REVISION] = 1
    set(key, cmsgpack.pack(mark), mark_ttl())
    count(run, 'deletions')
  else
    count(run, 'redelivered')
  end
end

-- A person's word on a post: its share and topics are exchanged where its rollups still stand, and nothing lives any
-- longer for it (the call's retentions are 0). The results stream keeps what the model said.
local function amend(entry)
  local id, share, topics = entry[2], entry[3], entry[4]
  local post, receipt_key = prefix .. ':post:' .. id, RECEIPT .. id
  local receipt = receipt_of(id)
  if not (receipt and receipt[SHARE]) or call('GET', post) ~= ARGV[entry[5]] then
    outcomes[#outcomes + 1] = 'changed'
    return
  end
  local created_ms = receipt[CREATED]
  add_share(receipt[SHARE], created_ms, receipt[TOPICS], -1, has_bucket)
  add_share(share, created_ms, topics, 1, function(_, field, stem) return has_bucket(stem .. 'all', field) end)
  unlist(id, created_ms, receipt[TOPICS])
  list(id, created_ms, created_ms, topics)
  for _, topic in ipairs(topics) do
    for _, key in ipairs({ prefix .. ':tail:' .. topic, posts_of(created_ms, topic) }) do
      lives[key] = post
    end
    each_bucket(created_ms, function(stem) lives[stem .. topic] = stem .. 'all' end)
  end
  receipt[SHARE], receipt[TOPICS] = share, topics
  call('SET', receipt_key, cmsgpack.pack(receipt), 'KEEPTTL')
  call('SET', post, ARGV[entry[6]], 'KEEPTTL')
  if entry[7] then
    local corrections = prefix .. ':corrections:' .. id
    call('RPUSH', corrections, ARGV[entry[7]])
    call('SADD', prefix .. ':corrected', id)
    lives[corrections] = receipt_key
  end
  outcomes[#outcomes + 1] = 'amended'
end

-- What stands of all that the entries name: their receipts, in order, and the marks of their authors.
local function look_up()
  local keys, marked = {}, {}
  for i, entry in ipairs(entries) do
    keys[i] = RECEIPT .. entry[2]
    local author = has_share(entry) and entry[12] or entry[1] == LETTER and entry[9]
    if author then marked[#marked + 1] = FORGOTTEN[entry[4]] .. author end
  end
  for i, packed in ipairs(get_all(marked)) do
    if packed then marks[marked[i]] = cmsgpack.unpack(packed) end
  end
  return get_all(keys)
end

local found = look_up()
for i, entry in ipairs(entries) do
  if entry[1] == AMENDMENT then
    amend(entry)
  elseif entry[1] == LETTER then
    bury(entry, found[i])
  elseif entry[1] == AUTHOR_GONE then
    forget(entry)
  elseif entry[1] == HANDLED then
    handle(entry)
  else
    settle(entry, found[i])
  end
end

add_announced()
write_sums()
write_lists()
for topic in pairs(tails) do
  local tail = prefix .. ':tail:' .. topic
  call('SADD', prefix .. ':topics', topic)
  call('ZREMRANGEBYRANK', tail, 0, -tail_kept - 1)
  expire(tail, post_ttl)
end
for key in pairs(posts) do expire(key, post_ttl) end
for key, model in pairs(lives) do -- what an amendment made new
  local left = call('PTTL', model)
  if left > 0 and call('PTTL', key) == -1 then call('PEXPIRE', key, left) end
end
if post_ttl > 0 and watermark > 0 then -- the results hold text too
  call('XTRIM', prefix .. ':results', 'MINID', string.format('%d', (now_s - post_ttl) * 1000))
  call('EXPIRE', prefix .. ':results', post_ttl)
end
if watermark > tonumber(call('GET', prefix .. ':watermark') or 0) then
  call('SET', prefix .. ':watermark', string.format('%d', watermark))
end
for run, counts in pairs(runs) do
  for outcome, n in pairs(counts) do
    call('HINCRBY', prefix .. ':run:' .. run, outcome, n)
    call('HINCRBY', prefix .. ':counters', outcome, n)
  end
  expire(prefix .. ':run:' .. run, rollup_ttl)
end
if number then outcomes[#outcomes + 1] = number end
return outcomes
