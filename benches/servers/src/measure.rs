//! One scenario, once with each app in turn; and whether the apps did what they are said to have been measured at.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Result;
use crate::child::{Running, cpu_micros, machine_cpu_micros, own_cpu_micros};
use crate::client::{Connection, Reply};
use crate::load::Requests;
use crate::options::Options;
use crate::report::{Report, Row};
use crate::scenarios::{App, Scenario, Store};
use crate::stores::Server;

pub(crate) async fn in_turn(
    store: Store,
    scenario: Scenario,
    options: &Options,
    report: &mut Report<'_>,
    round: usize,
) -> Result<()> {
    let mut apps = options.apps(store);
    // Nobody is always the first.
    let first = round % apps.len().max(1);
    apps.rotate_left(first);
    let turn = Turn {
        store,
        scenario,
        round,
        options,
        folder: Folder::new()?,
    };
    turn.all(&apps, report).await
}

struct Turn<'a> {
    store: Store,
    scenario: Scenario,
    round: usize,
    options: &'a Options,
    folder: Folder,
}

impl Turn<'_> {
    async fn all(&self, apps: &[App], report: &mut Report<'_>) -> Result<()> {
        for &app in apps {
            let mut row = self.measure(app).await?;
            for _ in 1..self.options.tries {
                if !row.is_disturbed() {
                    break;
                }
                println!("again, since others were at work: {}", row.to_csv());
                row = self.measure(app).await?;
            }
            report.row(&row)?;
        }
        Ok(())
    }

    async fn measure(&self, app: App) -> Result<Row> {
        self.try_to_measure(app).await.map_err(|error| {
            let (store, scenario) = (self.store.name(), self.scenario.name());
            format!("{store}, {scenario}, {}: {error}", app.name()).into()
        })
    }

    async fn try_to_measure(&self, app: App) -> Result<Row> {
        let options = self.options;
        let server = Server::of(self.store).await?;
        server.empty().await?;
        let running = Running::start(app, self.store, self.scenario, options).await?;
        let cookies = sessions(app, running.port, options).await?;
        let requests = Requests {
            port: running.port,
            path: self.scenario.path(),
            cookies: if self.scenario.has_cookie() {
                &cookies
            } else {
                &[]
            },
            folder: &self.folder.0,
        };
        if options.warm_up > 0.0 {
            requests.send(options.warm_up, options).await?;
        }
        let check = Check::begin(app, self.scenario, running.port, &cookies, &server).await?;
        let before = Cpu::now(&running, &server).await?;
        let answered = requests.send(options.seconds, options).await?;
        let cpu = Cpu::now(&running, &server).await?.since(&before);
        check
            .end(answered.requests, options.connections, &server)
            .await?;
        running.stop().await?;
        let each = |micros: u64| micros as f64 / answered.requests.max(1) as f64;
        Ok(Row {
            store: self.store,
            scenario: self.scenario,
            app,
            round: self.round,
            load: options.load.name().to_owned(),
            connections: options.connections,
            seconds: answered.seconds,
            requests: answered.requests,
            p50_ms: answered.p50_ms,
            p99_ms: answered.p99_ms,
            app_cpu_us: each(cpu.app),
            store_cpu_us: cpu.store.map(each),
            others_cores: cpu.others() as f64 / 1e6 / answered.seconds,
        })
    }
}

/// Microseconds of a core that were used so far.
struct Cpu {
    app: u64,
    store: Option<u64>,
    /// By the bench itself, and by `wrk`.
    load: u64,
    machine: u64,
}

impl Cpu {
    async fn now(app: &Running, server: &Server) -> Result<Self> {
        Ok(Self {
            app: cpu_micros(app.pid()?)?,
            store: server.cpu_micros().await?,
            load: own_cpu_micros()?,
            machine: machine_cpu_micros()?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        let used = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            app: used(self.app, before.app),
            store: self
                .store
                .zip(before.store)
                .map(|(now, before)| used(now, before)),
            load: used(self.load, before.load),
            machine: used(self.machine, before.machine),
        }
    }

    /// What nobody here has used.
    fn others(&self) -> u64 {
        let ours = self.app + self.store.unwrap_or_default() + self.load;
        self.machine.saturating_sub(ours)
    }
}

/// Makes so many sessions, several at once, and returns their cookies.
async fn sessions(app: App, port: u16, options: &Options) -> Result<Vec<String>> {
    let mut makers = JoinSet::new();
    for first in 0..options.connections {
        let count = options.sessions;
        let numbers = (first..count).step_by(options.connections);
        makers.spawn(async move {
            let mut connection = Connection::open(port).await?;
            let mut cookies = Vec::new();
            for number in numbers {
                let reply = connection.get("/write", None).await?;
                if (reply.status, &*reply.body) != (200, "1") {
                    let Reply { status, body, .. } = reply;
                    return Err(format!("a first write is answered with {status} {body}").into());
                }
                let cookie = match app {
                    App::None => Some(format!("id={number}")),
                    _ => reply.cookie,
                };
                cookies.push(cookie.ok_or("a new session without a cookie")?);
            }
            Result::Ok(cookies)
        });
    }
    let mut cookies = Vec::new();
    while let Some(made) = makers.join_next().await {
        cookies.extend(made??);
    }
    Ok(cookies)
}

/// What the app or the store counts by itself must agree with what was answered.
struct Check<'a> {
    app: App,
    scenario: Scenario,
    port: u16,
    cookies: &'a [String],
    before: Option<u64>,
}

impl<'a> Check<'a> {
    async fn begin(
        app: App,
        scenario: Scenario,
        port: u16,
        cookies: &'a [String],
        server: &Server,
    ) -> Result<Self> {
        let mut check = Self {
            app,
            scenario,
            port,
            cookies,
            before: None,
        };
        check.before = check.count(server).await?;
        Ok(check)
    }

    /// # Errors
    ///
    /// When more or less was written than requests were answered, or under way when the time was over.
    async fn end(self, answered: u64, under_way: usize, server: &Server) -> Result<()> {
        let (Some(before), Some(after)) = (self.before, self.count(server).await?) else {
            return Ok(());
        };
        let written = after.saturating_sub(before);
        let expected = match self.scenario {
            Scenario::Unused | Scenario::Read | Scenario::Sliding => 0..=0,
            Scenario::Write | Scenario::New => answered..=answered + under_way as u64,
        };
        if answered > 0 && expected.contains(&written) {
            return Ok(());
        }
        Err(format!("{answered} requests were answered, and {written} have written").into())
    }

    /// What grows by one with each write.
    async fn count(&self, server: &Server) -> Result<Option<u64>> {
        if self.app == App::None {
            return Ok(None);
        }
        // Requests that were under way when the load ended.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if self.scenario == Scenario::New {
            return server.sessions(self.app).await;
        }
        let mut connection = Connection::open(self.port).await?;
        let mut sum = 0;
        for cookie in self.cookies {
            let reply = connection.get("/read", Some(cookie)).await?;
            let number = reply.body.parse::<u64>();
            sum += number
                .map_err(|_| format!("a read is answered with {} {}", reply.status, reply.body))?;
        }
        Ok(Some(sum))
    }
}

/// A folder that is removed with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("cloakroom-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _leftover = std::fs::remove_dir_all(&self.0);
    }
}
