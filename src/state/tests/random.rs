//! Random sequences of overlapping requests on one record, against a simple model of what must hold.

use std::collections::{BTreeMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const LETTERS: [&str; 4] = ["a", "b", "c", "d"];

/// A request on its way.
struct Open {
    id: SessionId,
    state: State,
    /// What it appends to the session's log.
    letters: String,
    clears: bool,
}

/// The store with its one session, and what is known of every id of it.
struct World {
    rng: StdRng,
    rules: Rules,
    now: i64,
    record: Option<Record>,
    ids: Vec<SessionId>,
    /// Secrets that must not open the session any more.
    dead: HashSet<[u8; 32]>,
    versions: HashSet<u64>,
    /// What the session's log must be.
    log: String,
    counts: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rules = Rules {
            touch_every_read: rng.random(),
            renew_after: rng.random::<bool>().then_some(20_000),
            ..rules()
        };
        Self {
            rng,
            rules,
            now: at(0),
            record: None,
            ids: Vec::new(),
            dead: HashSet::new(),
            versions: HashSet::new(),
            log: String::new(),
            counts: BTreeMap::new(),
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn fresh_id(&mut self) -> SessionId {
        id(self.rng.random_range(1_000..u64::MAX))
    }

    /// What an id opens, as a load has it.
    fn open(&self, id: &SessionId) -> (Standing, Loaded) {
        let nothing = |standing| (standing, Loaded::nothing());
        let Some(record) = self.record.clone() else {
            return nothing(Standing::Absent);
        };
        if self.ids[0].handle != id.handle {
            return nothing(Standing::Absent);
        }
        let digest = id.secret.digest();
        match judge(id, digest, Carrier::Cookie, record, self.now, &self.rules).unwrap() {
            Verdict::Live(live, loaded) => {
                assert!(
                    !self.dead.contains(digest.as_bytes()),
                    "a dead id came back"
                );
                (Standing::Live(live), loaded)
            }
            Verdict::Retired => nothing(Standing::Lost(Dropped::Retired)),
            _ => nothing(Standing::Absent),
        }
    }

    /// A request that brings any id that was ever given out, mostly a late one.
    fn begin(&mut self) -> Open {
        let back = match self.chance(3) {
            true => self.rng.random_range(0..self.ids.len()),
            false => 0,
        };
        let id = self.ids[self.ids.len() - 1 - back].clone();
        let (standing, loaded) = self.open(&id);
        Open {
            id,
            state: State::new(standing, loaded, &self.rules),
            letters: String::new(),
            clears: false,
        }
    }

    fn stage(&mut self, open: &mut Open) {
        for _ in 0..self.rng.random_range(0..3) {
            let letter = LETTERS[self.rng.random_range(0..LETTERS.len())];
            append(&mut open.state, "log", letter);
            open.letters.push_str(letter);
        }
        if self.chance(15) && !open.state.data.is_empty() {
            open.state.data.clear();
            open.letters.clear();
            open.clears = true;
        }
        let timeouts = [timeouts(8_000, 50_000), timeouts(60_000, 300_000), TIMEOUTS];
        let chosen = timeouts[self.rng.random_range(0..timeouts.len())];
        open.state.wishes.renew = self.chance(8);
        open.state.wishes.timeouts = self.chance(10).then_some(chosen);
        open.state.wishes.persistent_cookie = self.chance(10);
        open.state.wishes.do_not_extend = self.chance(6);
    }

    /// Whether nothing was written since this was loaded.
    fn is_newest(&self, live: &Live) -> bool {
        let stored = self.record.as_ref().map(|record| record.version);
        stored == Some(live.record.version)
    }

    /// The end of a request: what is staged goes onto what the session is by now.
    fn commit(&mut self, open: Open) {
        let mut job = open.state.job();
        let mut standing = open.state.standing;
        if let Standing::Live(live) = &standing
            && !self.is_newest(live)
        {
            if !job.has_changes {
                return;
            }
            self.count("contended");
            let loaded;
            (standing, loaded) = self.open(&open.id);
            match &standing {
                Standing::Live(_) => job.rebase(loaded).unwrap(),
                _ => return self.count("lost"),
            }
        }
        let fresh = self.fresh_id();
        let plan = plan(&standing, &job, self.now, &self.rules, || Ok(fresh)).unwrap();
        match plan {
            Plan::Nothing => self.count("nothing"),
            Plan::Drop(_) => self.count("dropped"),
            Plan::Touch { expires_at } => {
                let record = self.record.as_mut().unwrap();
                // A touch keeps the version, so another one may have come first: a store never lowers it.
                record.expires_at = record.expires_at.max(from_unix_millis(expires_at));
                self.count("touched");
            }
            Plan::Create(write) => {
                assert!(!matches!(standing, Standing::Live(_) | Standing::Lost(_)));
                self.begin_session(&open.letters);
                self.count("created");
                self.write(None, write);
            }
            Plan::Update { write, .. } => {
                self.extend_log(open.clears, &open.letters);
                self.count("updated");
                if job.wishes.renew {
                    self.bury_all();
                }
                self.write(Some(&standing), write);
            }
        }
    }

    fn log_in(&mut self, open: Open) {
        let user = ["alice", "bob"][self.rng.random_range(0..2)];
        let mut login = Login::new(user).label("a device");
        if self.chance(3) {
            login = login.remember_me(timeouts(60_000, 300_000));
        }
        let mut job = open.state.job();
        let mut standing = open.state.standing;
        if matches!(standing, Standing::Live(_)) {
            let loaded;
            (standing, loaded) = self.open(&open.id);
            job.rebase(loaded).unwrap();
        }
        loop {
            let fresh = self.fresh_id();
            match plan_login(&standing, &job, &login, self.now, &self.rules, fresh) {
                LoginPlan::End => {
                    self.record = None;
                    self.count("ended");
                    standing = Standing::Absent;
                    job.rebase(Loaded::nothing()).unwrap();
                }
                LoginPlan::Create(write) => {
                    self.begin_session(&open.letters);
                    self.count("logged in afresh");
                    return self.write(None, write);
                }
                LoginPlan::Update(write) => {
                    self.extend_log(open.clears, &open.letters);
                    self.bury_all();
                    self.count("logged in");
                    return self.write(Some(&standing), write);
                }
            }
        }
    }

    /// A session of its own: the one before is out of sight.
    fn begin_session(&mut self, letters: &str) {
        self.record = None;
        self.ids.clear();
        self.dead.clear();
        self.log = letters.into();
    }

    fn extend_log(&mut self, clears: bool, letters: &str) {
        if clears {
            self.log.clear();
        }
        self.log.push_str(letters);
    }

    /// After a change of privilege no secret that was known before opens the session.
    fn bury_all(&mut self) {
        let digests = self.ids.iter().map(|id| *id.secret.digest().as_bytes());
        self.dead.extend(digests);
    }

    fn write(&mut self, standing: Option<&Standing>, write: Write) {
        let Live {
            id, record, header, ..
        } = *write.live;
        assert!(
            self.versions.insert(record.version.to_u64()),
            "a version twice"
        );
        let (decoded, _) = Header::decode(&record.payload).unwrap();
        assert_eq!(facts(&decoded), facts(&header));
        assert!(header.retired.len() <= MAX_RETIRED);
        let mut digests: HashSet<_> = header
            .retired
            .iter()
            .map(|one| *one.digest.as_bytes())
            .collect();
        assert!(
            digests.insert(*header.secret.as_bytes()),
            "the current secret is retired"
        );
        assert_eq!(
            digests.len(),
            header.retired.len() + 1,
            "a secret is retired twice"
        );
        assert!(to_unix_millis(record.expires_at) <= header.timeouts.deadline(header.started_at));
        let log = match self.log.as_str() {
            "" => String::new(),
            log => format!("log={log}"),
        };
        assert_eq!(contents(&record), log, "an update is lost");
        if let Some(standing) = standing {
            let Standing::Live(before) = standing else {
                panic!("{standing:?} was updated");
            };
            assert!(
                before.expires_at() > self.now,
                "an expired session was extended"
            );
            assert_eq!(record.created_at, before.record.created_at);
            assert_eq!(id.handle, before.id.handle);
        }
        if let Some(CookieEffect::Set { id: sent, .. }) = &write.cookie {
            assert_eq!(
                sent.secret.digest(),
                header.secret,
                "an id that is not current was sent"
            );
            let is_known = |known: &SessionId| known.secret.digest() == sent.secret.digest();
            if !self.ids.iter().any(is_known) {
                self.ids.push(sent.clone());
            }
        }
        self.record = Some(record);
        self.check();
    }

    /// What holds at any time.
    fn check(&self) {
        let Some(record) = &self.record else {
            return;
        };
        let is_expired = to_unix_millis(record.expires_at) <= self.now;
        for id in &self.ids {
            let is_live = matches!(self.open(id).0, Standing::Live(_));
            assert!(!(is_live && is_expired), "an expired session was opened");
        }
        let latest = self.ids.last().unwrap();
        let is_live = matches!(self.open(latest).0, Standing::Live(_));
        assert_eq!(is_live, !is_expired, "who has the latest id is logged in");
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, usize> {
    let mut world = World::new(seed);
    let first = absent().append("log", "a").state;
    world.commit(Open {
        id: id(OURS),
        state: first,
        letters: "a".into(),
        clears: false,
    });
    let mut requests: Vec<Open> = Vec::new();
    for _ in 0..60 {
        if requests.len() < 3 {
            let mut open = world.begin();
            world.stage(&mut open);
            requests.push(open);
        }
        world.now += match world.rng.random_range(0..10) {
            0..4 => 0,
            4..8 => world.rng.random_range(0..2_000),
            _ => world.rng.random_range(0..9_000),
        };
        world.check();
        if world.chance(2) {
            let index = world.rng.random_range(0..requests.len());
            let open = requests.swap_remove(index);
            match world.chance(8) {
                true => world.log_in(open),
                false => world.commit(open),
            }
        }
    }
    world.counts
}

#[test]
fn overlapping_requests_lose_nothing_and_revive_nothing() {
    let mut counts = BTreeMap::new();
    for seed in 0..100 {
        for (what, count) in run(seed) {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    // Otherwise the invariants would hold for want of anything to break them.
    for what in [
        "contended",
        "created",
        "dropped",
        "ended",
        "logged in",
        "logged in afresh",
        "lost",
        "nothing",
        "touched",
        "updated",
    ] {
        assert!(
            counts.get(what).is_some_and(|&count| count > 20),
            "{what}: {counts:?}"
        );
    }
}
