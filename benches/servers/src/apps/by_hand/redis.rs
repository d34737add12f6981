//! The calls of `RedisStore`.

use cloakroom::store::RedisStore;
use redis::Value;
use redis::aio::{ConnectionLike, ConnectionManager};

use super::{Calls, Id, Row, Sample, expiry, hexadecimal};
use crate::Result;
use crate::stores::redis_url;

/// Milliseconds after its expiry at which Redis removes a session.
const GRACE: i64 = 60_000;

#[derive(Clone)]
pub(super) struct Redis {
    connection: ConnectionManager,
    /// The hashes of the store's scripts.
    update: String,
    touch: String,
}

impl Redis {
    pub(super) async fn open() -> Result<Self> {
        let client = redis::Client::open(redis_url()?)?;
        let connection = client.get_connection_manager().await?;
        let store = RedisStore::new(connection.clone());
        let sample = Sample::of(&store);
        sample.create().await?;
        // Twice, since a server that does not know the script yet is sent the script and not its hash.
        sample.update().await?;
        let update = script_of(connection.clone(), sample.update()).await?;
        sample.touch().await?;
        let touch = script_of(connection.clone(), sample.touch()).await?;
        Ok(Self {
            connection,
            update,
            touch,
        })
    }

    async fn send(&self, command: &redis::Cmd) -> Result<Value> {
        let answer = self.connection.clone().req_packed_command(command).await?;
        Ok(answer.extract_error()?)
    }

    /// Sends a script's call, and says whether the record is changed.
    async fn run(&self, command: &redis::Cmd) -> Result<bool> {
        Ok(self.send(command).await? == Value::Int(1))
    }
}

impl Calls for Redis {
    async fn load(&self, id: &Id) -> Result<Option<Row>> {
        let mut command = redis::cmd("GETEX");
        command.arg(key(id));
        match self.send(&command).await? {
            Value::BulkString(bytes) => Row::decode(&bytes).map(Some),
            Value::Nil => Ok(None),
            _ => Err("GETEX answers with no string".into()),
        }
    }

    async fn touch(&self, id: &Id, version: u64, now: i64) -> Result<bool> {
        let expires_at = expiry(now);
        let mut command = script(&self.touch, id);
        command
            .arg(&version.to_be_bytes())
            .arg(now)
            .arg(expires_at)
            .arg(&expires_at.to_be_bytes())
            .arg(expires_at + GRACE);
        self.run(&command).await
    }

    async fn update(&self, id: &Id, version: u64, row: &Row, now: i64) -> Result<bool> {
        let mut command = script(&self.update, id);
        command
            .arg(&version.to_be_bytes())
            .arg(now)
            .arg(&row.version.to_be_bytes())
            .arg(row.expires_at + GRACE)
            .arg(row.encode());
        self.run(&command).await
    }

    async fn create(&self, id: &Id, row: &Row) -> Result<()> {
        let mut command = redis::cmd("SET");
        command
            .arg(key(id))
            .arg(row.encode())
            .arg("NX")
            .arg("PXAT")
            .arg(row.expires_at + GRACE);
        match self.send(&command).await? {
            Value::Okay => Ok(()),
            _ => Err("the session was not created".into()),
        }
    }
}

/// The beginning is where the scripts look for it: a format, the version, and the times.
impl Row {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.created_at.to_be_bytes());
        bytes.extend(self.expires_at.to_be_bytes());
        bytes.extend([0xff, 0xff]);
        bytes.extend(self.n.to_string().as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let number = |at: usize| -> Result<[u8; 8]> {
            Ok(bytes
                .get(at..at + 8)
                .ok_or("a value is too short")?
                .try_into()?)
        };
        let n = bytes.get(27..).ok_or("a value is too short")?;
        Ok(Self {
            version: u64::from_be_bytes(number(1)?),
            created_at: i64::from_be_bytes(number(9)?),
            expires_at: i64::from_be_bytes(number(17)?),
            n: std::str::from_utf8(n)?.parse()?,
        })
    }
}

fn script(hash: &str, id: &Id) -> redis::Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(hash).arg(1).arg(key(id));
    command
}

fn key(id: &Id) -> String {
    format!("cloakroom:{}", hexadecimal(id))
}

/// The hash of the script that this operation of the store runs, by the server's log of slow commands.
async fn script_of(
    mut connection: ConnectionManager,
    operation: impl Future<Output = Result<()>>,
) -> Result<String> {
    let slower_than = |micros: &'static str| {
        let mut command = redis::cmd("CONFIG");
        command
            .arg("SET")
            .arg("slowlog-log-slower-than")
            .arg(micros);
        command
    };
    redis::cmd("SLOWLOG")
        .arg("RESET")
        .exec_async(&mut connection)
        .await?;
    slower_than("0").exec_async(&mut connection).await?;
    operation.await?;
    slower_than("10000").exec_async(&mut connection).await?;
    type Entry = (Value, Value, Value, Vec<Vec<u8>>, Value, Value);
    let entries: Vec<Entry> = redis::cmd("SLOWLOG")
        .arg("GET")
        .query_async(&mut connection)
        .await?;
    let hash = entries.into_iter().find_map(|entry| match &entry.3[..] {
        [command, hash, ..] if command == b"EVALSHA" => Some(hash.clone()),
        _ => None,
    });
    let hash = hash.ok_or("the store does not run a script by its hash")?;
    Ok(String::from_utf8(hash)?)
}
