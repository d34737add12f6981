//! The changes that are staged, key by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Replay;

/// What is staged for one key.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) from: From,
    /// The closures of `update` since then.
    pub(super) replays: Vec<Replay>,
    /// What they come to; `None` if the key is removed.
    pub(super) value: Option<Arc<[u8]>>,
}

/// What the closures of a change begin with.
#[derive(Clone)]
pub(super) enum From {
    Loaded,
    /// Nothing, whatever the store holds: this request has cleared the session.
    Cleared,
    /// Nothing, either: this request has removed the key.
    Removed,
    /// What this request has set, whatever the store holds: the change's own value, while no closure has made
    /// another of it.
    Set(Option<Arc<[u8]>>),
}

impl Change {
    pub(super) fn set(value: Arc<[u8]>) -> Self {
        Self {
            from: From::Set(None),
            replays: Vec::new(),
            value: Some(value),
        }
    }

    pub(super) fn removed() -> Self {
        Self {
            from: From::Removed,
            replays: Vec::new(),
            value: None,
        }
    }

    pub(super) fn value(&self) -> Option<&Arc<[u8]>> {
        self.value.as_ref()
    }

    /// What this request has set, before the closures.
    fn set_value(&self) -> Option<&Arc<[u8]>> {
        match &self.from {
            From::Set(value) => value.as_ref().or(self.value()),
            _ => None,
        }
    }

    pub(super) fn push(&mut self, replay: Replay, value: Arc<[u8]>) {
        let before = self.value.replace(value);
        if let From::Set(first @ None) = &mut self.from {
            *first = before;
        }
        self.replays.push(replay);
    }

    /// Whether this is `earlier` with more closures, or none.
    pub(super) fn goes_on_from(&self, earlier: &Self) -> bool {
        let same_start = match (&self.from, &earlier.from) {
            (From::Loaded, From::Loaded)
            | (From::Cleared, From::Cleared)
            | (From::Removed, From::Removed) => true,
            _ => match (self.set_value(), earlier.set_value()) {
                (Some(now), Some(then)) => Arc::ptr_eq(now, then),
                _ => false,
            },
        };
        let mut both = self.replays.iter().zip(&earlier.replays);
        same_start
            && self.replays.len() >= earlier.replays.len()
            && both.all(|(now, then)| Arc::ptr_eq(now, then))
    }
}

/// The change of each key. Clones share them until one is changed: a commit takes a clone to the store.
#[derive(Clone, Default)]
pub(super) enum Staged {
    #[default]
    Nothing,
    /// As most requests have it, which spares them the nodes of a tree.
    One(Arc<Entry>),
    Many(Arc<BTreeMap<Arc<str>, Change>>),
}

type Entry = (Arc<str>, Change);

impl Staged {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, key: &str) -> Option<&Change> {
        match self {
            Self::Nothing => None,
            Self::One(one) => (*one.0 == *key).then_some(&one.1),
            Self::Many(many) => many.get(key),
        }
    }

    pub(super) fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// In the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Change)> {
        let (one, many) = match self {
            Self::Nothing => (None, None),
            Self::One(one) => (Some((&one.0, &one.1)), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Puts a change in place of what is staged for its key.
    pub(super) fn insert(&mut self, key: Arc<str>, change: Change) {
        *self = match std::mem::take(self) {
            Self::Nothing => Self::One(Arc::new((key, change))),
            Self::One(one) if one.0 == key => Self::One(Arc::new((key, change))),
            Self::One(one) => {
                let both = [Arc::unwrap_or_clone(one), (key, change)];
                Self::Many(Arc::new(BTreeMap::from(both)))
            }
            Self::Many(mut many) => {
                Arc::make_mut(&mut many).insert(key, change);
                Self::Many(many)
            }
        };
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Change> {
        match self {
            Self::Nothing => None,
            Self::One(one) if *one.0 != *key => None,
            Self::One(_) => match std::mem::take(self) {
                Self::One(one) => Some(Arc::unwrap_or_clone(one).1),
                _ => None,
            },
            Self::Many(many) => Arc::make_mut(many).remove(key),
        }
    }

    /// Keeps those changes alone that `keep` says `true` to.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>, &mut Change) -> bool) {
        match self {
            Self::Nothing => {}
            Self::One(one) => {
                let (key, change) = Arc::make_mut(one);
                if !keep(key, change) {
                    *self = Self::Nothing;
                }
            }
            Self::Many(many) => Arc::make_mut(many).retain(keep),
        }
    }
}
