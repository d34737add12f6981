//! What runs inside the server on a user's list and mark, each time as one step on one key.
//!
//! The key is a sorted set, so that nothing here but a limit costs more for a user with thousands of sessions
//! than for one with few. For each session it has two members:
//!
//! | Member | Score |
//! |---|---|
//! | the handle, 16 bytes | when the entry expires |
//! | `c` for a complete login or `p` for a pending one, and the handle | minus the time of the login |
//! | `mark` | when the mark is forgotten: [`MARK_KEPT`](crate::store::MARK_KEPT) after its time |
//!
//! All times are unix milliseconds, and positive. So what is of no use any more is a range of scores, the highest
//! score says when the whole key is, and logins are ordered by time.
//!
//! The key of everyone's mark has that member alone, and the keys in which users are noted have the hashes of
//! their ids, with the time until which they may have a list.

use super::script::StoredScript;

/// Fails where the server takes no writes, by a command that is one and changes nothing: a replica, or a master
/// that was cut off, may not know what was linked or marked.
macro_rules! on_a_master {
    () => {
        r"
local refused = redis.pcall('ZREM', KEYS[1], '')
if type(refused) == 'table' then return refused end
"
    };
}

/// The same, and where it has no memory for more. It asks so at a script's first command alone, so that this is
/// to be it.
macro_rules! on_a_master_with_memory {
    () => {
        r"
local refused = redis.pcall('ZADD', KEYS[1], 'XX', 'INCR', 0, '')
if type(refused) == 'table' then return refused end
"
    };
}

/// Has Redis remove the key a grace period after the last of it is of use. Where nothing else was written this
/// is, so that `WAIT` has something to wait for: who has written it before may have been told of a failure.
macro_rules! keep_while_of_use {
    () => {
        r"
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if last and tonumber(last) > 0 then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last + 60000))
end
"
    };
}

/// `ARGV`: handle, time of the login, expiry of the entry, from when on a mark refuses it (as the score of such
/// a mark), `c` or `p`, until when entries are dropped, `oldest`, `refuse` or nothing, and the limit.
///
/// The answer: 0 for overtaken; -1, and the others, for full; 1, the others, and what `TAKE_BACK` needs.
const LINK: &str = concat!(
    on_a_master_with_memory!(),
    r"
local handle, now, login = ARGV[1], tonumber(ARGV[2]), ARGV[5]
local mark = redis.call('ZSCORE', KEYS[1], 'mark')
if mark and tonumber(mark) >= tonumber(ARGV[4]) then return {0} end

local others = {}
if ARGV[7] ~= '' then
  local logins = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(0', '-inf', 'WITHSCORES')
  for i = 1, #logins, 2 do
    local other = logins[i]:sub(2)
    if logins[i]:sub(1, 1) == 'c' and other ~= handle then
      local expires_at = redis.call('ZSCORE', KEYS[1], other)
      if expires_at and tonumber(expires_at) > now then
        others[#others + 1] = logins[i]
        others[#others + 1] = logins[i + 1]
      end
    end
  end
  if #others < 2 * tonumber(ARGV[8]) then
    others = {}
  elseif ARGV[7] == 'refuse' then
    return {-1, others}
  end
end

local before = {}
for _, kind in ipairs({'c', 'p'}) do
  local linked_at = redis.call('ZSCORE', KEYS[1], kind .. handle)
  if linked_at then
    before = {redis.call('ZSCORE', KEYS[1], handle) or ARGV[3], handle, linked_at, kind .. handle}
  end
end
-- The client has sent it twice, since it got no answer.
if before[1] == ARGV[3] and before[3] == '-' .. ARGV[2] and before[4] == login .. handle then before = {} end

redis.call('ZADD', KEYS[1], ARGV[3], handle, '-' .. ARGV[2], login .. handle)
redis.call('ZREM', KEYS[1], (login == 'c' and 'p' or 'c') .. handle)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, ARGV[6], 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], old, 'c' .. old, 'p' .. old)
end
",
    keep_while_of_use!(),
    "return {1, others, before}"
);

/// `ARGV`: handle, `c` or `p` and the handle, score of each of them; and what was there before, as `ZADD` takes
/// it, if anything was.
///
/// Undoes a link, if it is still there.
const TAKE_BACK: &str = concat!(
    on_a_master!(),
    r"
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
if redis.call('ZSCORE', KEYS[1], ARGV[2]) ~= ARGV[4] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1], ARGV[2])
if ARGV[5] then redis.call('ZADD', KEYS[1], unpack(ARGV, 5)) end
",
    keep_while_of_use!(),
    "return 1"
);

/// `ARGV`: handle, new expiry of the entry.
const EXTEND: &str = concat!(
    r"
local written = redis.pcall('ZADD', KEYS[1], 'XX', 'GT', ARGV[2], ARGV[1])
if type(written) == 'table' then return written end
",
    keep_while_of_use!(),
    "return 1"
);

/// `ARGV`: handles.
const UNLINK: &str = concat!(
    on_a_master!(),
    r"
for _, handle in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], handle, 'c' .. handle, 'p' .. handle)
end
",
    keep_while_of_use!(),
    "return 1"
);

/// `ARGV`: member, score, up to which score members are dropped. A score never gets lower.
///
/// For marks, and to note users.
const PUT: &str = concat!(
    r"
local written = redis.pcall('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
if type(written) == 'table' then return written end
redis.call('ZREMRANGEBYSCORE', KEYS[1], 1, ARGV[3])
",
    keep_while_of_use!(),
    "return 1"
);

/// `ARGV`: from which score on, how many to skip of them, how many to return (-1 for all).
const READ: &str = concat!(
    on_a_master!(),
    r"
return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', ARGV[2], ARGV[3])
"
);

/// The scripts, with their hashes.
pub(super) struct UserScripts {
    pub(super) link: StoredScript,
    pub(super) take_back: StoredScript,
    pub(super) extend: StoredScript,
    pub(super) unlink: StoredScript,
    pub(super) put: StoredScript,
    pub(super) read: StoredScript,
}

impl UserScripts {
    pub(super) fn new() -> Self {
        Self {
            link: StoredScript::new(LINK),
            take_back: StoredScript::new(TAKE_BACK),
            extend: StoredScript::new(EXTEND),
            unlink: StoredScript::new(UNLINK),
            put: StoredScript::new(PUT),
            read: StoredScript::new(READ),
        }
    }
}
