//! What runs inside the server, so that a comparison and the write that depends on it are one step.
//!
//! Each script has one key, so a cluster can run it; and it runs as one step, because Redis runs nothing
//! else meanwhile. Times are compared as numbers: unix milliseconds are exact in Lua's doubles. Versions are
//! not, so they are compared as the bytes that stand in the record. (Lua's `<` on strings would go by the
//! server's locale.)
//!
//! Commands are called with `pcall` and their errors returned as they are: before Redis 7, an error that
//! ends a script loses its code.

use redis::{Cmd, RedisResult, Script, ServerErrorKind};

use super::connection::command;
use super::replicas::{Answer, Way};

/// The record is live and was changed as asked.
pub(super) const DONE: i64 = 1;
/// There is no record, or it has expired.
pub(super) const MISSING: i64 = 0;
/// The record is live, but has another version.
pub(super) const CONFLICT: i64 = -1;

/// Finds out whether the record is live at `ARGV[2]`, and takes its `version` and `expires_at` out of its
/// first bytes. Of a record that cannot be read it returns those bytes.
///
/// The first command changes nothing and is there because it counts as a write. A replica refuses it, and
/// so does a master that takes no writes; without it, such a server would be believed that there is no
/// record, or another version of it.
macro_rules! live_record {
    () => {
        r"
local length = redis.pcall('SETRANGE', KEYS[1], 0, '')
if type(length) == 'table' then return length end
local head = redis.call('GETRANGE', KEYS[1], 0, 26)
if #head < 27 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
  return head
end
if head:byte(1) ~= 1 then return head end
local version = head:sub(2, 9)
local expires_at = struct.unpack('>i8', head, 18)
if expires_at <= tonumber(ARGV[2]) then return 0 end
"
    };
}

/// `ARGV`: expected version, now, new version, when Redis may remove it, record.
///
/// Where the record has the new version already, this is the second time that the client sends the same
/// update, since the connection broke before the answer to the first one came: a `ClusterConnection` does
/// that by itself. The layer would take the conflict for another request's write, and apply its changes
/// on top of themselves. What is written then is what is there; so `WAIT` has something to wait for.
const UPDATE: &str = concat!(
    live_record!(),
    r"
local written
if version == ARGV[1] then
  written = redis.pcall('SET', KEYS[1], ARGV[5], 'PXAT', ARGV[4])
elseif version == ARGV[3] then
  written = redis.pcall('SETRANGE', KEYS[1], 0, head:sub(1, 1))
else
  return -1
end
if type(written) == 'table' and written.err then return written end
return 1
"
);

/// `ARGV`: expected version, now, new expiry, the same in eight bytes, when Redis may remove it.
///
/// The step that can fail, for want of memory, comes first.
const TOUCH: &str = concat!(
    live_record!(),
    r"
if version ~= ARGV[1] then return -1 end
if tonumber(ARGV[3]) > expires_at then
  local written = redis.pcall('SETRANGE', KEYS[1], 17, ARGV[4])
  if type(written) == 'table' then return written end
  redis.call('PEXPIREAT', KEYS[1], ARGV[5])
end
return 1
"
);

/// Deletes the key. Where there is none, something is written and removed again in the same step: `WAIT`
/// waits for the last write of its own connection, and an ending that is tried again after its replicas
/// failed to confirm it would not be one.
const DELETE: &str = r"
if redis.call('DEL', KEYS[1]) == 1 then return 1 end
local written = redis.pcall('SET', KEYS[1], '', 'PX', 1000)
if type(written) == 'table' and written.err then return written end
redis.call('DEL', KEYS[1])
return 0
";

/// The scripts, with their hashes.
pub(super) struct Scripts {
    pub(super) update: StoredScript,
    pub(super) touch: StoredScript,
    pub(super) delete: StoredScript,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            update: StoredScript::new(UPDATE),
            touch: StoredScript::new(TOUCH),
            delete: StoredScript::new(DELETE),
        }
    }
}

/// A script that is called by its hash, which is one round trip, for as long as the server knows it.
pub(super) struct StoredScript {
    code: &'static str,
    hash: String,
}

impl StoredScript {
    pub(super) fn new(code: &'static str) -> Self {
        let hash = Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs the script on this key.
    pub(super) async fn call(
        &self,
        way: Way<'_>,
        key: &[u8],
        arguments: &[Vec<u8>],
    ) -> RedisResult<Answer> {
        match way.run(key, self.by_hash(key, arguments)).await {
            // It is not known there after a restart, a failover, or `SCRIPT FLUSH`. Nothing was run.
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                Box::pin(way.run(key, self.by_code(key, arguments))).await
            }
            answer => answer,
        }
    }

    /// The command that calls the script by its hash.
    pub(super) fn by_hash(&self, key: &[u8], arguments: &[Vec<u8>]) -> Cmd {
        call("EVALSHA", self.hash.as_bytes(), key, arguments)
    }

    /// The command that sends the script itself, from which on the server knows its hash.
    ///
    /// Not `SCRIPT LOAD`, which would go to every master of a cluster, and fail where one is down; nor
    /// `redis::Script`, which uses that.
    pub(super) fn by_code(&self, key: &[u8], arguments: &[Vec<u8>]) -> Cmd {
        call("EVAL", self.code.as_bytes(), key, arguments)
    }
}

fn call(name: &str, script: &[u8], key: &[u8], arguments: &[Vec<u8>]) -> Cmd {
    let front = [script, b"1", key].into_iter();
    command(name, front.chain(arguments.iter().map(Vec::as_slice)))
}
