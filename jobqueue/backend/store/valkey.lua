#!lua name=jqown1
-- The rows of partition N, written by its owner alone (jobqueue/backend/store/valkey.py). Every check of the owner's token stands in the
-- same function as the write it guards.
--
-- Keys: KEYS[1] is `{jqN}:o`, a hash: epoch, token, owner, addr, until (seconds since the epoch, by the server's clock), change (the number
-- of the last commit). Beside it `{jqN}:j:B` and `{jqN}:p:B`, hashes of number -> state or payload for the numbers from 16384 * B on;
-- `{jqN}:b`, how many jobs each B has; `{jqN}:q`, queue -> row; `{jqN}:c`, the counters. All are in one slot. `{jqN}:t` is there while
-- somebody reads all rows without owning them: token, until, and number -> '' of each job that was changed or deleted since.
-- `{jq}:members`: server -> when it was last seen, a space, its address.
--
-- A released code never changes what it does for a server of the same library name: a new meaning is a new library beside this one. A
-- correction raises REVISION.

local REVISION = 2
local CHUNK = 2000 -- unpack has room for some 8000
local MEMBER_SECONDS = 60

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function after(seconds)
  return string.format('%.6f', now() + tonumber(seconds))
end

local function left(deadline)
  return string.format('%.6f', tonumber(deadline) - now())
end

local function fenced(epoch)
  return redis.error_reply('FENCED ' .. (epoch or '0'))
end

-- name, address, seconds, force ('1' or '0'), nonce -> owner, address, epoch, seconds left
local function claim(keys, a)
  local o = keys[1]
  local h = redis.call('HMGET', o, 'owner', 'addr', 'epoch', 'until')
  if h[1] and h[1] ~= a[1] and a[4] ~= '1' and tonumber(h[4]) > now() then
    return {h[1], h[2], h[3], left(h[4])}
  end
  local epoch = string.format('%d', tonumber(h[3] or '0') + 1)
  -- The token, and not the epoch alone, is what is compared: should a failover forget this claim, the next one gets the same epoch.
  redis.call('HSET', o, 'owner', a[1], 'addr', a[2], 'epoch', epoch, 'token', epoch .. ':' .. a[5], 'until', after(a[3]))
  redis.call('HSETNX', o, 'change', '0')
  return {a[1], a[2], epoch, a[3]}
end

-- -> owner, address, epoch, seconds left; nil when nobody owns it
local function owner(keys)
  local h = redis.call('HMGET', keys[1], 'owner', 'addr', 'epoch', 'until')
  if not h[1] then return nil end
  return {h[1], h[2], h[3], left(h[4])}
end

-- token, seconds -> number of the last commit
local function renew(keys, a)
  local h = redis.call('HMGET', keys[1], 'token', 'epoch', 'change')
  if h[1] ~= a[1] then return fenced(h[2]) end
  redis.call('HSET', keys[1], 'until', after(a[2]))
  return tonumber(h[3])
end

-- token -> 1
local function release(keys, a)
  local h = redis.call('HMGET', keys[1], 'token', 'epoch')
  if h[1] ~= a[1] then return fenced(h[2]) end
  redis.call('HDEL', keys[1], 'owner', 'addr', 'token', 'until')
  return 1
end

-- Set n fields and values from a[i] on; how many are new.
local function put(key, a, i, n)
  local made = 0
  for s = i, i + n - 1, CHUNK do
    made = made + redis.call('HSET', key, unpack(a, s, math.min(s + CHUNK - 1, i + n - 1)))
  end
  return made
end

local function drop(key, a, i, n)
  local gone = 0
  for s = i, i + n - 1, CHUNK do
    gone = gone + redis.call('HDEL', key, unpack(a, s, math.min(s + CHUNK - 1, i + n - 1)))
  end
  return gone
end

-- Note numbers, n arguments from a[i] on of which each step-th is one.
local function mark(key, a, i, n, step)
  local some = {}
  for s = i, i + n - 1, step do
    some[#some + 1] = a[s]
    some[#some + 1] = ''
    if #some >= CHUNK then
      redis.call('HSET', key, unpack(some))
      some = {}
    end
  end
  if #some > 0 then redis.call('HSET', key, unpack(some)) end
end

-- Whether somebody reads meanwhile, who has not been silent for too long.
local function noting(key)
  local deadline = redis.call('HGET', key, 'until')
  if not deadline then return false end
  if tonumber(deadline) > now() then return true end
  redis.call('DEL', key)
  return false
end

-- token, number, base, seconds, counters, buckets; for each of these B and three counts of arguments, then payloads, states, deletions;
-- then queues and rows, '' to delete -> 1
--
-- number: above that of every commit before. base: the last one that was acknowledged. A commit that arrives late, after another that the
-- owner sent in its place, is PAST; one that comes to a server which has lost what was acknowledged is told that it is BEHIND.
local function commit(keys, a)
  local o = keys[1]
  local p = string.sub(o, 1, -2)
  local h = redis.call('HMGET', o, 'token', 'epoch', 'change')
  if h[1] ~= a[1] then return fenced(h[2]) end
  local change = tonumber(h[3])
  if change < tonumber(a[3]) then return redis.error_reply('BEHIND ' .. h[3]) end
  if change >= tonumber(a[2]) then return redis.error_reply('PAST ' .. h[3]) end
  -- A key that never is. While a slot is migrated key by key, asking for one that is not here is an error, before anything is written:
  -- else a commit could end between a job that is still here and the count of its bucket that has gone.
  redis.call('EXISTS', p .. '-')
  local t = p .. 't'
  local watched = noting(t)
  local i = 7
  for _ = 1, tonumber(a[6]) do
    local b, np, ns, nd = a[i], tonumber(a[i + 1]), tonumber(a[i + 2]), tonumber(a[i + 3])
    local states, payloads = p .. 'j:' .. b, p .. 'p:' .. b
    i = i + 4
    put(payloads, a, i, np)
    i = i + np
    local more = put(states, a, i, ns)
    if watched then mark(t, a, i, ns, 2) end
    i = i + ns
    if nd > 0 then
      if watched then mark(t, a, i, nd, 1) end
      more = more - drop(states, a, i, nd)
      drop(payloads, a, i, nd)
      i = i + nd
    end
    if more ~= 0 and redis.call('HINCRBY', p .. 'b', b, more) == 0 then redis.call('HDEL', p .. 'b', b) end
  end
  for s = i, #a, 2 do
    if a[s + 1] == '' then redis.call('HDEL', p .. 'q', a[s]) else redis.call('HSET', p .. 'q', a[s], a[s + 1]) end
  end
  redis.call('SET', p .. 'c', a[5])
  redis.call('HSET', o, 'change', a[2], 'until', after(a[4]))
  return 1
end

-- Reading all rows while they change: `note`, then all of them in any order, then `noted` until it has told all. What it tells at last is of
-- one moment, and so are then all rows, once those that were noted have taken the place of what was read before.

-- KEYS[1] is `{jqN}:t`; token, seconds, '1' to go on and '0' to begin -> 1
local function note(keys, a)
  local h = redis.call('HMGET', keys[1], 'token', 'until')
  if a[3] == '1' then
    if h[1] ~= a[1] then return redis.error_reply('UNNOTED the store no longer notes for this reader what changes') end
  elseif h[1] and tonumber(h[2]) > now() then
    return redis.error_reply('NOTING another backup is being made; should it have been broken off, try again in ' .. left(h[2]) .. ' s')
  else
    redis.call('DEL', keys[1])
  end
  redis.call('HSET', keys[1], 'token', a[1], 'until', after(a[2]))
  return 1
end

-- KEYS[1] is `{jqN}:t`; token, seconds, rows, bytes -> {0, rows}, or {1, rows, counters, `{jqN}:b`, `{jqN}:q`} when these are the last.
-- Of each row number, state and payload, false for what is not there. It tells about so many at a time, each once.
local function noted(keys, a)
  local t = keys[1]
  local p = string.sub(t, 1, -2)
  if redis.call('HGET', t, 'token') ~= a[1] then
    return redis.error_reply('UNNOTED the store no longer notes for this reader what changes')
  end
  redis.call('HSET', t, 'until', after(a[2]))
  local most, bytes = 3 * tonumber(a[3]), tonumber(a[4])
  local rows, told = {}, {}
  local cursor, all = '0', true
  repeat
    local part = redis.call('HSCAN', t, cursor, 'COUNT', CHUNK)
    cursor = part[1]
    for i = 1, #part[2], 2 do
      local number = part[2][i]
      if number ~= 'token' and number ~= 'until' then
        if #rows >= most or bytes <= 0 then
          all = false
          break
        end
        local b = string.format('%d', math.floor(tonumber(number) / 16384))
        local state, payload = redis.call('HGET', p .. 'j:' .. b, number), redis.call('HGET', p .. 'p:' .. b, number)
        rows[#rows + 1] = number
        rows[#rows + 1] = state
        rows[#rows + 1] = payload
        told[#told + 1] = number
        bytes = bytes - (state and #state or 0) - (payload and #payload or 0)
      end
    end
  until cursor == '0' or not all
  if not all then
    drop(t, told, 1, #told)
    return {0, rows}
  end
  redis.call('DEL', t)
  return {1, rows, redis.call('GET', p .. 'c'), redis.call('HGETALL', p .. 'b'), redis.call('HGETALL', p .. 'q')}
end

-- KEYS[1] is `{jq}:members`; name, address -> name, address, seconds since seen, of each
local function announce(keys, a)
  local at = now()
  redis.call('HSET', keys[1], a[1], string.format('%.6f', at) .. ' ' .. a[2])
  local all = redis.call('HGETALL', keys[1])
  local found = {}
  for i = 1, #all, 2 do
    local space = string.find(all[i + 1], ' ', 1, true)
    local since = at - tonumber(string.sub(all[i + 1], 1, space - 1))
    if since > MEMBER_SECONDS then
      redis.call('HDEL', keys[1], all[i])
    else
      found[#found + 1] = all[i]
      found[#found + 1] = string.sub(all[i + 1], space + 1)
      found[#found + 1] = string.format('%.6f', math.max(0, since))
    end
  end
  return found
end

-- KEYS[1] is a key of nobody: whether this user may do in it what the functions do -> 1
local function try(keys)
  redis.call('HSET', keys[1], 'a', '1')
  redis.call('HSETNX', keys[1], 'b', '1')
  redis.call('HINCRBY', keys[1], 'b', '1')
  redis.call('HMGET', keys[1], 'a', 'b')
  redis.call('HGETALL', keys[1])
  redis.call('HSCAN', keys[1], '0')
  redis.call('EXISTS', keys[1])
  redis.call('HDEL', keys[1], 'a', 'b')
  redis.call('SET', keys[1], '')
  redis.call('DEL', keys[1])
  redis.call('TIME')
  return 1
end

redis.register_function('jo_claim', claim)
redis.register_function('jo_commit', commit)
redis.register_function('jo_announce', announce)
redis.register_function('jo_note', note)
redis.register_function('jo_noted', noted)
redis.register_function('jo_try', try)
-- An owner goes on to hold a queue that it cannot write to for want of memory, and can let go of it.
redis.register_function{function_name = 'jo_renew', callback = renew, flags = {'allow-oom'}}
redis.register_function{function_name = 'jo_release', callback = release, flags = {'allow-oom'}}
redis.register_function{function_name = 'jo_owner', callback = owner, flags = {'no-writes'}}
redis.register_function{function_name = 'jo_revision', callback = function() return REVISION end, flags = {'no-writes'}}
