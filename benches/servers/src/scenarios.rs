//! What is measured, and who takes part.

use crate::Result;

/// Where the sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Store {
    Memory,
    Redis,
    /// It syncs to the disk before it acknowledges, as it does by default.
    Postgres,
    /// With `synchronous_commit = off`, so that writes wait for no disk.
    PostgresUnsynced,
}

impl Store {
    pub(crate) const ALL: [Self; 4] = [
        Self::Memory,
        Self::Redis,
        Self::Postgres,
        Self::PostgresUnsynced,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::PostgresUnsynced => "postgres-unsynced",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let store = Self::ALL.into_iter().find(|store| store.name() == name);
        store.ok_or_else(|| format!("{name:?} is no store").into())
    }
}

/// What the requests of a measurement do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// They bring a cookie, and the handler does not look at the session.
    Unused,
    /// They read one key.
    Read,
    /// They read one key, and each extends the session.
    Sliding,
    /// They read one key and write it.
    Write,
    /// They bring no cookie, and write one key.
    New,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [
        Self::Unused,
        Self::Read,
        Self::Sliding,
        Self::Write,
        Self::New,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Read => "read",
            Self::Sliding => "sliding",
            Self::Write => "write",
            Self::New => "new",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Unused => "/unused",
            Self::Read | Self::Sliding => "/read",
            Self::Write | Self::New => "/write",
        }
    }

    pub(crate) fn has_cookie(self) -> bool {
        self != Self::New
    }

    /// Without a write it is all the same whether writes are synced.
    pub(crate) fn is_for(self, store: Store) -> bool {
        store != Store::PostgresUnsynced || !matches!(self, Self::Unused | Self::Read)
    }
}

/// What an app has its sessions by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum App {
    /// Nothing: there are no sessions.
    None,
    /// The store's calls, made by the handlers themselves.
    ByHand,
    Cloakroom,
    TowerSessions,
    ExpressSession,
}

impl App {
    pub(crate) const ALL: [Self; 5] = [
        Self::None,
        Self::ByHand,
        Self::Cloakroom,
        Self::TowerSessions,
        Self::ExpressSession,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no session",
            Self::ByHand => "by hand",
            Self::Cloakroom => "cloakroom",
            Self::TowerSessions => "tower-sessions",
            Self::ExpressSession => "express-session",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let app = Self::ALL.into_iter().find(|app| app.name() == name);
        app.ok_or_else(|| format!("{name:?} is no app").into())
    }

    /// Which other apps are compared with, each in its own round.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::None | Self::ByHand)
    }

    pub(crate) fn is_for(self, store: Store) -> bool {
        match self {
            Self::None => store == Store::Memory,
            Self::ByHand => store != Store::Memory,
            Self::Cloakroom | Self::TowerSessions => true,
            Self::ExpressSession => store == Store::Redis,
        }
    }
}
