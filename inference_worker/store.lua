-- Writes one micro-batch of one shard, atomically and exactly once in effect.
--
-- KEYS[1]  the shard's counters key (its hash tag routes the call; every other key shares the tag)
-- ARGV[1]  key prefix `{namespace:shard}`
-- ARGV[2]  MessagePack list of entries, positional:
--            post        {1, id, revision, partition, offset, timestamp_ms, run, created_ms, topics, share,
--                         blob, thumbnails, author or nil}
--            deletion    {2, id, revision, partition, offset, timestamp_ms, run}
--            dead letter {3, key, revision, partition, offset, timestamp_ms, run, blob, author or nil}
--            author gone {4, author, cursor, partition, offset, timestamp_ms, run, counts here, posts per step}
--            withdrawn   {5, id, revision, partition, offset, timestamp_ms, run}: a post that was not scored, as its
--                         receipt, its deletion (then the next entry of this id) or its author's made that useless
--            amendment   {6, id, share, topics, old blob, new blob, correction blob or nil}: a person's change of a
--                         post; refused (`changed`) unless the post still reads as the old blob
-- ARGV[3]  seconds rollups and runs live after their last write; 0: for ever
-- ARGV[4]  seconds a post's text and thumbnails live; 0: for ever
-- ARGV[5]  entries the results stream keeps; 0: all
-- ARGV[6]  posts a topic's tail keeps
-- ARGV[7…] the entries' blobs (cmsgpack knows no byte strings): `blob` is the index of the packed prediction or dead
--          letter, the post's `thumbnails` JPEGs follow it
-- Returns  one outcome per entry, in order. A number, of `author gone`: not done, call again with it as the cursor.
--
-- A receipt remembers what a post has added to the rollups and the last Kafka position seen of it. Records of one
-- key arrive in order, so a position at or before it, in the same partition and not written later, is a redelivery
-- (the time stamp tells a recreated topic, whose offsets start again at 0). A tombstone is a receipt without a share.
--
-- An author's deletion takes the posts whose receipt stands before it in its own partition, and leaves a mark that
-- stops those which were still being scored; each tombstone keeps its own position, so that no record goes uncounted.
local prefix = ARGV[1]
local entries = cmsgpack.unpack(ARGV[2])
local rollup_ttl, post_ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local results_kept, tail_kept = tonumber(ARGV[5]), tonumber(ARGV[6])

local DELETION, LETTER, AUTHOR_GONE, WITHDRAWN, AMENDMENT = 2, 3, 4, 5, 6
local DAYS_SPAN = 2764800
local LEVELS = { { 'minute', 60, 3600 }, { 'hour', 3600, 86400 }, { 'day', 86400, DAYS_SPAN } }
-- fields of a receipt, and of an author's mark (which has the first four only, and `counted` in place of a revision)
local REVISION, PARTITION, OFFSET, TIMESTAMP, CREATED, SHARE, TOPICS, RESULT, AUTHOR = 1, 2, 3, 4, 5, 6, 7, 8, 9
-- A post comes at most this much later than its deletion: no source looks back further.
local LOOK_BACK = 172800

local now_s = tonumber(redis.call('TIME')[1])
local outcomes, runs, sums, grown, receipts, marks, authors = {}, {}, {}, {}, {}, {}, {}
local tails, posts, lives, withdrawn, watermark = {}, {}, {}, {}, 0

local function set(key, value, ttl)
  if ttl > 0 then redis.call('SET', key, value, 'EX', ttl) else redis.call('SET', key, value) end
end

local function expire(key, ttl)
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end

local function tally(run, name)
  local counts = runs[run]
  if not counts then
    counts = {}
    runs[run] = counts
  end
  counts[name] = (counts[name] or 0) + 1
end

local function count(run, outcome)
  tally(run, outcome)
  outcomes[#outcomes + 1] = outcome
end

-- Where a topic's posts of the hour of an event time are listed.
local function posts_of(created_ms, topic)
  return prefix .. ':posts:' .. string.format('%d', math.floor(created_ms / 3600000)) .. ':' .. topic
end

-- The entry stands at or before a receipt's (or mark's) position.
local function is_behind(entry, receipt)
  return entry[4] == receipt[PARTITION] and entry[5] <= receipt[OFFSET] and entry[6] <= receipt[TIMESTAMP]
end

local function receipt_of(id)
  if receipts[id] then return receipts[id] end
  local packed = redis.call('GET', prefix .. ':receipt:' .. id)
  return packed and cmsgpack.unpack(packed)
end

-- A receipt outlives every rollup its post entered: the last of them has its last write when its span is over.
local function receipt_ttl(receipt)
  if rollup_ttl == 0 then return 0 end
  if not receipt[CREATED] then return math.min(rollup_ttl, LOOK_BACK) end -- entered nothing
  local span_end = (math.floor(receipt[CREATED] / 1000 / DAYS_SPAN) + 1) * DAYS_SPAN
  return rollup_ttl + math.min(math.max(span_end - now_s, 0), DAYS_SPAN)
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

-- Adds (sign 1) or takes back (sign -1) a share in all rollups of its topics; with `stands(stem, field)` only where
-- that says so.
local function add_share(share, created_ms, topics, sign, stands)
  each_bucket(created_ms, function(stem, field)
    if stands and not stands(stem, field) then return end
    for _, topic in ipairs(topics) do
      local key = stem .. topic
      local buckets = sums[key] or {}
      local vector = buckets[field]
      if sign > 0 then grown[key] = true end
      -- nothing is taken from a bucket that has expired
      if vector or sign > 0 or redis.call('HEXISTS', key, field) == 1 then
        vector = vector or {}
        for i = 1, #share do vector[i] = (vector[i] or 0) + sign * share[i] end
        buckets[field] = vector
        sums[key] = buckets
      end
    end
  end)
end

local function write_sums()
  for key, buckets in pairs(sums) do
    for field, vector in pairs(buckets) do
      local packed = redis.call('HGET', key, field)
      if packed then
        local old = cmsgpack.unpack(packed)
        for i = 1, math.max(#old, #vector) do vector[i] = (vector[i] or 0) + (old[i] or 0) end
      end
      if vector[1] == 0 then
        redis.call('HDEL', key, field) -- the last post left: as if it had never been
      else
        redis.call('HSET', key, field, cmsgpack.pack(vector))
      end
    end
    if grown[key] then expire(key, rollup_ttl) end -- being forgotten prolongs nothing
  end
end

local function list(id, created_ms, topic)
  local key = posts_of(created_ms, topic)
  redis.call('ZADD', prefix .. ':tail:' .. topic, created_ms, id)
  redis.call('ZADD', key, created_ms, id)
  tails[topic] = true
  posts[key] = true
end

local function unlist(id, created_ms, topic)
  redis.call('ZREM', prefix .. ':tail:' .. topic, id)
  redis.call('ZREM', posts_of(created_ms, topic), id)
end

-- Takes what a receipt stands for out of rollups, tails, results and its author's posts.
local function take_back(id, receipt)
  add_share(receipt[SHARE], receipt[CREATED], receipt[TOPICS], -1)
  for _, topic in ipairs(receipt[TOPICS]) do unlist(id, receipt[CREATED], topic) end
  redis.call('XDEL', prefix .. ':results', receipt[RESULT])
  if receipt[AUTHOR] then redis.call('ZREM', prefix .. ':author:' .. receipt[AUTHOR], id) end
end

local function write_post(entry, receipt)
  local id, created_ms, topics, share, prediction = entry[2], entry[8], entry[9], entry[10], ARGV[entry[11]]
  if receipt then take_back(id, receipt) end
  add_share(share, created_ms, topics, 1)
  for _, topic in ipairs(topics) do list(id, created_ms, topic) end
  set(prefix .. ':post:' .. id, prediction, post_ttl)
  local thumbnails = prefix .. ':thumbs:' .. id
  if receipt then redis.call('DEL', thumbnails) end
  for index = 1, entry[12] do redis.call('HSET', thumbnails, index - 1, ARGV[entry[11] + index]) end
  if entry[12] > 0 then expire(thumbnails, post_ttl) end
  local result
  if results_kept > 0 then
    result = redis.call('XADD', prefix .. ':results', 'MAXLEN', '~', results_kept, '*', 'p', prediction)
  else
    result = redis.call('XADD', prefix .. ':results', '*', 'p', prediction)
  end
  watermark = math.max(watermark, created_ms)
  return { entry[3], entry[4], entry[5], entry[6], created_ms, share, topics, result, entry[13] }
end

-- Takes a post out of everything and returns its tombstone.
local function erase(id, receipt)
  local created_ms
  if receipt then
    created_ms = receipt[CREATED]
    if receipt[SHARE] then take_back(id, receipt) end
  end
  redis.call('DEL', prefix .. ':post:' .. id, prefix .. ':thumbs:' .. id)
  redis.call('DEL', prefix .. ':corrections:' .. id)
  redis.call('SREM', prefix .. ':corrected', id)
  return { receipt and receipt[REVISION] or 0, 0, 0, 0, created_ms }
end

-- Takes a post's dead letters before the entry out, of one partition or of all; returns how many there ever were and
-- how many are left. Their places stay known, so that none is counted again.
local function erase_letters(entry, id, partition)
  local places, left = redis.call('SMEMBERS', prefix .. ':letters:' .. id), 0
  for _, place in ipairs(places) do
    local of, offset, timestamp = place:match('(%d+):(%d+):(%d+)')
    local letter = { 0, tonumber(of), tonumber(offset), tonumber(timestamp) }
    if is_behind(entry, letter) or (partition and partition ~= letter[PARTITION]) then
      left = left + 1
    else
      redis.call('HDEL', prefix .. ':dead-letters', place)
    end
  end
  return #places, left
end

-- The author's deletion stands later than the entry in the same partition, and came first.
local function is_forgotten(entry, author)
  if not author then return false end
  local key = prefix .. ':forgotten:' .. entry[4] .. ':' .. author
  if marks[key] == nil then
    local packed = redis.call('GET', key)
    marks[key] = packed and cmsgpack.unpack(packed)
  end
  return marks[key] and is_behind(entry, marks[key])
end

-- Returns the outcome and the receipt it leaves, if any.
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
    if is_forgotten(entry, entry[13]) then return 'stale', { revision } end
    return 'scored', write_post(entry, nil)
  elseif is_tombstone or revision < receipt[REVISION] then
    return 'stale', receipt
  elseif revision == receipt[REVISION] then
    return 'duplicates', receipt
  end
  return 'edits', write_post(entry, receipt)
end

local function settle(entry)
  local id, run = entry[2], entry[7]
  local receipt = receipt_of(id)
  if receipt and is_behind(entry, receipt) then return count(run, 'redelivered') end
  local outcome
  outcome, receipt = apply(entry, receipt)
  if receipt then
    receipt[PARTITION], receipt[OFFSET], receipt[TIMESTAMP] = entry[4], entry[5], entry[6]
    receipts[id] = receipt
  end
  count(run, outcome)
  if outcome == 'unseen' then tally(run, 'deletions') end -- where records end; `unseen` only says how it went
end

local function bury(entry)
  local id, run, letters, author = entry[2], entry[7], prefix .. ':dead-letters', entry[9]
  local place = string.format('%d:%d:%d', entry[4], entry[5], entry[6])
  if redis.call('SADD', prefix .. ':letters:' .. id, place) == 0 then return count(run, 'redelivered') end
  expire(prefix .. ':letters:' .. id, rollup_ttl)
  if not is_forgotten(entry, author) then
    redis.call('HSET', letters, place, ARGV[entry[8]])
    expire(letters, rollup_ttl)
    if author then
      redis.call('ZADD', prefix .. ':author:' .. author, now_s, id)
      authors[author] = true
    end
  end
  count(run, 'dead_letters')
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
    if left == 0 then redis.call('ZREM', prefix .. ':author:' .. entry[2], id) end
  elseif receipt[PARTITION] == entry[4] and not is_behind(entry, receipt) then
    local tombstone = erase(id, receipt)
    tombstone[PARTITION], tombstone[OFFSET], tombstone[TIMESTAMP] = receipt[PARTITION], receipt[OFFSET], receipt[TIMESTAMP]
    receipts[id] = tombstone
    tally(entry[7], 'forgotten')
  end
end

-- One step through an author's posts. ZSCAN returns whatever is there from the first step to the last, so that
-- writes between two steps do no harm.
local function forget(entry)
  local author, run = entry[2], entry[7]
  local key = prefix .. ':forgotten:' .. entry[4] .. ':' .. author
  local packed = redis.call('GET', key)
  local mark = packed and cmsgpack.unpack(packed)
  if not (mark and is_behind(entry, mark)) then
    mark = { 0, entry[4], entry[5], entry[6] }
    set(key, cmsgpack.pack(mark), mark_ttl())
  end
  marks[key] = mark
  local scanned = redis.call('ZSCAN', prefix .. ':author:' .. author, entry[3], 'COUNT', entry[9])
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
  local post, receipt_key = prefix .. ':post:' .. id, prefix .. ':receipt:' .. id
  local receipt = receipt_of(id)
  if not (receipt and receipt[SHARE]) or redis.call('GET', post) ~= ARGV[entry[5]] then
    outcomes[#outcomes + 1] = 'changed'
    return
  end
  local created_ms = receipt[CREATED]
  add_share(receipt[SHARE], created_ms, receipt[TOPICS], -1)
  add_share(share, created_ms, topics, 1, function(stem, field)
    return redis.call('HEXISTS', stem .. 'all', field) == 1
  end)
  for _, topic in ipairs(receipt[TOPICS]) do unlist(id, created_ms, topic) end
  for _, topic in ipairs(topics) do
    list(id, created_ms, topic)
    for _, key in ipairs({ prefix .. ':tail:' .. topic, posts_of(created_ms, topic) }) do
      lives[key] = post
    end
    each_bucket(created_ms, function(stem) lives[stem .. topic] = stem .. 'all' end)
  end
  receipt[SHARE], receipt[TOPICS] = share, topics
  redis.call('SET', receipt_key, cmsgpack.pack(receipt), 'KEEPTTL')
  redis.call('SET', post, ARGV[entry[6]], 'KEEPTTL')
  if entry[7] then
    local corrections = prefix .. ':corrections:' .. id
    redis.call('RPUSH', corrections, ARGV[entry[7]])
    redis.call('SADD', prefix .. ':corrected', id)
    lives[corrections] = receipt_key
  end
  outcomes[#outcomes + 1] = 'amended'
end

for _, entry in ipairs(entries) do
  if entry[1] == AMENDMENT then
    amend(entry)
  elseif entry[1] == LETTER then
    bury(entry)
  elseif entry[1] == AUTHOR_GONE then
    forget(entry)
  else
    settle(entry)
  end
end

write_sums()
for id, receipt in pairs(receipts) do
  set(prefix .. ':receipt:' .. id, cmsgpack.pack(receipt), receipt_ttl(receipt))
  if receipt[SHARE] and receipt[AUTHOR] then
    redis.call('ZADD', prefix .. ':author:' .. receipt[AUTHOR], now_s, id)
    authors[receipt[AUTHOR]] = true
  end
end
if rollup_ttl > 0 then
  for author in pairs(authors) do
    local key, ttl = prefix .. ':author:' .. author, rollup_ttl + DAYS_SPAN
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now_s - ttl) -- their receipts have expired
    redis.call('EXPIRE', key, ttl)
  end
end
for topic in pairs(tails) do
  local tail = prefix .. ':tail:' .. topic
  redis.call('SADD', prefix .. ':topics', topic)
  redis.call('ZREMRANGEBYRANK', tail, 0, -tail_kept - 1)
  expire(tail, post_ttl)
end
for key in pairs(posts) do expire(key, post_ttl) end
for key, model in pairs(lives) do -- what an amendment made new
  local left = redis.call('PTTL', model)
  if left > 0 and redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, left) end
end
if post_ttl > 0 and watermark > 0 then -- the results hold text too
  redis.call('XTRIM', prefix .. ':results', 'MINID', string.format('%d', (now_s - post_ttl) * 1000))
  redis.call('EXPIRE', prefix .. ':results', post_ttl)
end
if watermark > tonumber(redis.call('GET', prefix .. ':watermark') or 0) then
  redis.call('SET', prefix .. ':watermark', string.format('%d', watermark))
end
for run, counts in pairs(runs) do
  for outcome, n in pairs(counts) do
    redis.call('HINCRBY', prefix .. ':run:' .. run, outcome, n)
    redis.call('HINCRBY', prefix .. ':counters', outcome, n)
  end
  expire(prefix .. ':run:' .. run, rollup_ttl)
end
return outcomes
