-- Writes one micro-batch of one shard, atomically and exactly once in effect.
--
-- KEYS[1]  the shard's counters key (its hash tag routes the call; every other key shares the tag)
-- ARGV[1]  key prefix `{namespace:shard}`
-- ARGV[2]  MessagePack list of entries, positional:
--            post        {1, id, revision, partition, offset, timestamp_ms, run, created_ms, topics, share,
--                         blob, thumbnails}
--            deletion    {2, id, revision, partition, offset, timestamp_ms, run}
--            dead letter {3, position, blob, run}
-- ARGV[3]  seconds rollups, receipts and runs live after their last write; 0: for ever
-- ARGV[4]  seconds a post's text and thumbnails live; 0: for ever
-- ARGV[5]  entries the results stream keeps; 0: all
-- ARGV[6]  posts a topic's tail keeps
-- ARGV[7…] the entries' blobs (cmsgpack knows no byte strings): `blob` is the index of the packed prediction or dead
--          letter, the post's `thumbnails` JPEGs follow it
-- Returns  one outcome per entry, in order.
--
-- A receipt remembers what a post has added to the rollups and the last Kafka position seen of it. Records of one
-- key arrive in order, so a position at or before it, in the same partition and not written later, is a redelivery
-- (the time stamp tells a recreated topic, whose offsets start again at 0).
local prefix = ARGV[1]
local entries = cmsgpack.unpack(ARGV[2])
local rollup_ttl, post_ttl = tonumber(ARGV[3]), tonumber(ARGV[4])
local results_kept, tail_kept = tonumber(ARGV[5]), tonumber(ARGV[6])

local POST, DELETION = 1, 2
local LEVELS = { { 'minute', 60, 3600 }, { 'hour', 3600, 86400 }, { 'day', 86400, 2764800 } }
-- fields of a receipt
local REVISION, PARTITION, OFFSET, TIMESTAMP, CREATED, SHARE, TOPICS, RESULT = 1, 2, 3, 4, 5, 6, 7, 8

local outcomes, runs, sums, receipts = {}, {}, {}, {}
local tails, watermark = {}, 0

local function set(key, value, ttl)
  if ttl > 0 then redis.call('SET', key, value, 'EX', ttl) else redis.call('SET', key, value) end
end

local function count(run, outcome)
  local counts = runs[run]
  if not counts then
    counts = {}
    runs[run] = counts
  end
  counts[outcome] = (counts[outcome] or 0) + 1
  outcomes[#outcomes + 1] = outcome
end

-- Adds (sign 1) or takes back (sign -1) a share in all rollups of its topics.
local function add_share(share, created_ms, topics, sign)
  local created_s = math.floor(created_ms / 1000)
  for _, level in ipairs(LEVELS) do
    local middle = ':' .. level[1] .. ':' .. string.format('%d', math.floor(created_s / level[3])) .. ':'
    local field = string.format('%d', math.floor((created_s % level[3]) / level[2]))
    for _, topic in ipairs(topics) do
      local key = prefix .. middle .. topic
      local buckets = sums[key]
      if not buckets then
        buckets = {}
        sums[key] = buckets
      end
      local vector = buckets[field]
      if not vector then
        vector = {}
        buckets[field] = vector
      end
      for i = 1, #share do vector[i] = (vector[i] or 0) + sign * share[i] end
    end
  end
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
    if rollup_ttl > 0 then redis.call('EXPIRE', key, rollup_ttl) end
  end
end

local function leave_tails(id, topics)
  for _, topic in ipairs(topics) do redis.call('ZREM', prefix .. ':tail:' .. topic, id) end
end

local function write_post(entry, receipt)
  local id, created_ms, topics, share, prediction = entry[2], entry[8], entry[9], entry[10], ARGV[entry[11]]
  if receipt then
    add_share(receipt[SHARE], receipt[CREATED], receipt[TOPICS], -1)
    leave_tails(id, receipt[TOPICS])
    redis.call('XDEL', prefix .. ':results', receipt[RESULT])
  end
  add_share(share, created_ms, topics, 1)
  for _, topic in ipairs(topics) do
    redis.call('ZADD', prefix .. ':tail:' .. topic, created_ms, id)
    tails[topic] = true
  end
  set(prefix .. ':post:' .. id, prediction, post_ttl)
  local thumbnails = prefix .. ':thumbs:' .. id
  if receipt then redis.call('DEL', thumbnails) end
  for index = 1, entry[12] do redis.call('HSET', thumbnails, index - 1, ARGV[entry[11] + index]) end
  if post_ttl > 0 and entry[12] > 0 then redis.call('EXPIRE', thumbnails, post_ttl) end
  local result
  if results_kept > 0 then
    result = redis.call('XADD', prefix .. ':results', 'MAXLEN', '~', results_kept, '*', 'p', prediction)
  else
    result = redis.call('XADD', prefix .. ':results', '*', 'p', prediction)
  end
  watermark = math.max(watermark, created_ms)
  return { entry[3], entry[4], entry[5], entry[6], created_ms, share, topics, result }
end

-- Takes a post out of everything and leaves a tombstone (a receipt without a share).
local function delete_post(entry, receipt)
  local id = entry[2]
  if receipt and receipt[SHARE] then
    add_share(receipt[SHARE], receipt[CREATED], receipt[TOPICS], -1)
    leave_tails(id, receipt[TOPICS])
    redis.call('XDEL', prefix .. ':results', receipt[RESULT])
  end
  redis.call('DEL', prefix .. ':post:' .. id, prefix .. ':thumbs:' .. id)
  return { entry[3], entry[4], entry[5], entry[6] }
end

local function apply(entry)
  local kind, id, revision, run = entry[1], entry[2], entry[3], entry[7]
  local receipt = receipts[id]
  if not receipt then
    local packed = redis.call('GET', prefix .. ':receipt:' .. id)
    receipt = packed and cmsgpack.unpack(packed)
  end
  local tombstone = receipt and not receipt[SHARE]
  local outcome
  if receipt and entry[4] == receipt[PARTITION] and entry[5] <= receipt[OFFSET] and entry[6] <= receipt[TIMESTAMP] then
    return count(run, 'redelivered')
  elseif kind == DELETION then
    outcome = tombstone and 'duplicates' or 'deletions'
    receipt = delete_post(entry, receipt)
  elseif not receipt then
    outcome = 'scored'
    receipt = write_post(entry, nil)
  elseif tombstone or revision < receipt[REVISION] then
    outcome = 'stale'
  elseif revision == receipt[REVISION] then
    outcome = 'duplicates'
  else
    outcome = 'edits'
    receipt = write_post(entry, receipt)
  end
  receipt[PARTITION], receipt[OFFSET], receipt[TIMESTAMP] = entry[4], entry[5], entry[6]
  receipts[id] = receipt
  return count(run, outcome)
end

for _, entry in ipairs(entries) do
  if entry[1] == POST or entry[1] == DELETION then
    apply(entry)
  elseif redis.call('HSETNX', prefix .. ':dead-letters', entry[2], ARGV[entry[3]]) == 1 then
    count(entry[4], 'dead_letters')
  else
    count(entry[4], 'redelivered')
  end
end

write_sums()
for id, receipt in pairs(receipts) do
  set(prefix .. ':receipt:' .. id, cmsgpack.pack(receipt), rollup_ttl)
end
for topic in pairs(tails) do
  redis.call('SADD', prefix .. ':topics', topic)
  redis.call('ZREMRANGEBYRANK', prefix .. ':tail:' .. topic, 0, -tail_kept - 1)
end
if watermark > tonumber(redis.call('GET', prefix .. ':watermark') or 0) then
  redis.call('SET', prefix .. ':watermark', string.format('%d', watermark))
end
for run, counts in pairs(runs) do
  for outcome, n in pairs(counts) do
    redis.call('HINCRBY', prefix .. ':run:' .. run, outcome, n)
    redis.call('HINCRBY', prefix .. ':counters', outcome, n)
  end
  if rollup_ttl > 0 then redis.call('EXPIRE', prefix .. ':run:' .. run, rollup_ttl) end
end
return outcomes
