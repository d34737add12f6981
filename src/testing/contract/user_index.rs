//! [`UserIndex`]: lists of sessions by user, and the marks that end them.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::support::{
    DAY, HOUR, MILLISECOND, MINUTE, Subject, handle, now, poll_times, race, record,
};
use crate::store::{
    Handle, Link, Linked, LinkedSession, LoginProgress, SessionLimit, SessionStore, StoreError,
    UserIndex, Whose,
};

/// How many tasks race each other.
const TASKS: usize = 24;

fn index(store: &Arc<dyn SessionStore>) -> &dyn UserIndex {
    match store.user_index() {
        Some(index) => index,
        None => panic!("user_index: the store has none, so these rules are not for it"),
    }
}

fn done<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("the store failed: {error:?}"))
}

/// A link of a login at this time, which extracted its session a minute before.
fn link_at(at: OffsetDateTime) -> Link {
    Link {
        linked_at: at,
        expires_at: at + DAY,
        refused_by_marks_from: at - MINUTE,
        progress: LoginProgress::Complete,
        limit: None,
    }
}

async fn linked(store: &Arc<dyn SessionStore>, user_id: &str, number: u64, link: &Link) {
    let outcome = done(index(store).link(user_id, &handle(number), link).await);
    assert_eq!(outcome, Linked::Done(Vec::new()), "link of {number}");
}

async fn listed(store: &Arc<dyn SessionStore>, user_id: &str, at: OffsetDateTime) -> Vec<Handle> {
    let list = done(index(store).list(user_id, at).await);
    list.iter().map(|entry| entry.handle).collect()
}

/// A list has what was linked, by the time of the login; a second link of a session replaces its entry, and
/// `unlink` takes it away, be it there or not. Users do not see each other's.
pub async fn a_list_has_what_is_linked(store: Arc<dyn SessionStore>) {
    let start = now();
    for (number, later) in [(1, 3), (2, 1), (3, 2)] {
        linked(&store, "alice", number, &link_at(start + later * MINUTE)).await;
    }
    linked(&store, "alic", 4, &link_at(start)).await;
    linked(&store, "alice\u{fc} {x}:*", 5, &link_at(start)).await;
    let by_time = [handle(2), handle(3), handle(1)];
    assert_eq!(listed(&store, "alice", start).await, by_time);
    assert_eq!(listed(&store, "alic", start).await, [handle(4)]);
    assert_eq!(
        listed(&store, "alice\u{fc} {x}:*", start).await,
        [handle(5)]
    );
    assert!(listed(&store, "bob", start).await.is_empty());

    let again = Link {
        progress: LoginProgress::Pending,
        ..link_at(start + 4 * MINUTE)
    };
    linked(&store, "alice", 2, &again).await;
    let list = done(index(&store).list("alice", start).await);
    let last = LinkedSession {
        handle: handle(2),
        linked_at: start + 4 * MINUTE,
        progress: LoginProgress::Pending,
    };
    assert_eq!(list.len(), 3, "after a second link of a session");
    assert_eq!(list.last(), Some(&last), "after a second link of a session");

    for _ in 0..2 {
        done(index(&store).unlink("alice", &handle(3)).await);
        done(index(&store).unlink("bob", &handle(1)).await);
        assert_eq!(listed(&store, "alice", start).await, [handle(1), handle(2)]);
    }
}

/// An entry is listed until the absolute timeout of its session, which `extend` moves, and never to an
/// earlier time. `extend` links nothing.
pub async fn an_entry_stays_until_the_absolute_timeout(store: Arc<dyn SessionStore>) {
    let start = now();
    linked(&store, "alice", 1, &link_at(start)).await;
    assert_eq!(
        listed(&store, "alice", start + DAY - MILLISECOND)
            .await
            .len(),
        1
    );
    assert!(listed(&store, "alice", start + DAY).await.is_empty());

    done(
        index(&store)
            .extend("alice", &handle(1), start + 2 * DAY)
            .await,
    );
    done(
        index(&store)
            .extend("alice", &handle(1), start + HOUR)
            .await,
    );
    done(
        index(&store)
            .extend("alice", &handle(2), start + 2 * DAY)
            .await,
    );
    done(
        index(&store)
            .extend("bob", &handle(1), start + 2 * DAY)
            .await,
    );
    let late = start + 2 * DAY - MILLISECOND;
    assert_eq!(listed(&store, "alice", late).await, [handle(1)]);
    assert!(listed(&store, "alice", start + 2 * DAY).await.is_empty());
    assert!(listed(&store, "bob", start).await.is_empty());
}

/// A mark refuses every link that it is not older than, of its user alone, and never goes back in time.
pub async fn a_mark_refuses_what_it_is_not_older_than(store: Arc<dyn SessionStore>) {
    let start = now();
    done(index(&store).mark(Whose::User("alice"), start).await);
    done(index(&store).mark(Whose::User("alice"), start - HOUR).await);
    refused_by_the_mark(&store, start).await;
    linked(&store, "bob", 1, &link_at(start)).await;
}

/// A mark for everyone refuses as a user's own does.
pub async fn everyones_mark_refuses_as_well(store: Arc<dyn SessionStore>) {
    let start = now();
    done(index(&store).mark(Whose::Everyone, start).await);
    done(index(&store).mark(Whose::Everyone, start - HOUR).await);
    done(index(&store).mark(Whose::User("alice"), start - HOUR).await);
    refused_by_the_mark(&store, start).await;
    let link = link_at(start);
    let outcome = done(index(&store).link("bob", &handle(1), &link).await);
    assert_eq!(outcome, Linked::Overtaken);
}

async fn refused_by_the_mark(store: &Arc<dyn SessionStore>, mark: OffsetDateTime) {
    for before in [HOUR, MILLISECOND, Duration::ZERO] {
        let link = Link {
            refused_by_marks_from: mark - before,
            ..link_at(mark)
        };
        let outcome = done(index(store).link("alice", &handle(1), &link).await);
        assert_eq!(
            outcome,
            Linked::Overtaken,
            "a mark {before:?} after the link's time"
        );
        assert!(listed(store, "alice", mark).await.is_empty());
    }
    let later = Link {
        refused_by_marks_from: mark + MILLISECOND,
        ..link_at(mark + MINUTE)
    };
    linked(store, "alice", 1, &later).await;
}

/// A limit that ends the oldest links the session, and says which others there are; one that refuses
/// changes nothing. The session itself does not count, and pending logins and expired entries do not.
pub async fn a_limit_counts_the_other_complete_logins(store: Arc<dyn SessionStore>) {
    let start = now();
    let pending = Link {
        progress: LoginProgress::Pending,
        ..link_at(start)
    };
    let short = Link {
        expires_at: start + MILLISECOND,
        ..link_at(start)
    };
    linked(&store, "alice", 8, &pending).await;
    linked(&store, "alice", 9, &short).await;
    linked(&store, "alice", 1, &link_at(start + 2 * MINUTE)).await;
    linked(&store, "alice", 2, &link_at(start + MINUTE)).await;
    let others = |outcome: Linked| match outcome {
        Linked::Done(others) | Linked::Full(others) => {
            others.iter().map(|other| other.handle).collect()
        }
        Linked::Overtaken => vec![],
    };

    let refuse = |most| Link {
        limit: Some(SessionLimit::RefuseLogin(most)),
        ..link_at(start + 3 * MINUTE)
    };
    let outcome = done(index(&store).link("alice", &handle(3), &refuse(2)).await);
    assert!(matches!(outcome, Linked::Full(_)), "{outcome:?}");
    assert_eq!(others(outcome), [handle(2), handle(1)], "oldest first");
    let still = listed(&store, "alice", start + MINUTE).await;
    assert!(!still.contains(&handle(3)), "a refused login is listed");
    linked(&store, "alice", 2, &refuse(2)).await;
    let pending = Link {
        progress: LoginProgress::Pending,
        ..refuse(2)
    };
    linked(&store, "alice", 7, &pending).await;
    linked(&store, "alice", 3, &refuse(3)).await;

    let oldest = |most| Link {
        limit: Some(SessionLimit::EndOldest(most)),
        ..link_at(start + 4 * MINUTE)
    };
    let outcome = done(index(&store).link("alice", &handle(4), &oldest(3)).await);
    assert!(matches!(outcome, Linked::Done(_)), "{outcome:?}");
    let mut found = others(outcome);
    found.sort();
    assert_eq!(found, [handle(1), handle(2), handle(3)]);
    let outcome = done(index(&store).link("alice", &handle(4), &oldest(4)).await);
    assert_eq!(
        outcome,
        Linked::Done(Vec::new()),
        "the session itself counts"
    );
}

/// Of many logins at once under a limit that refuses, exactly as many are linked as it allows.
pub async fn of_many_links_a_limit_lets_in_its_number(store: Arc<dyn SessionStore>) {
    let start = now();
    for most in [1, 5] {
        let user_id = format!("user with {most}");
        let link = Link {
            limit: Some(SessionLimit::RefuseLogin(most)),
            ..link_at(start)
        };
        let outcomes = race(TASKS, |task| {
            let (store, user_id) = (store.clone(), user_id.clone());
            async move {
                done(
                    index(&store)
                        .link(&user_id, &handle(task as u64), &link)
                        .await,
                )
            }
        });
        let outcomes = outcomes.await;
        let let_in = outcomes.iter().filter(|one| matches!(one, Linked::Done(_)));
        assert_eq!(let_in.count(), most, "{outcomes:?}");
        assert_eq!(listed(&store, &user_id, start).await.len(), most);
    }
}

/// Of many logins at once under a limit that ends the oldest, each is told to a later one or stays among the
/// last: the one that is linked last is told of all that are still there.
pub async fn of_many_links_the_last_one_sees_all_others(store: Arc<dyn SessionStore>) {
    let start = now();
    let link = Link {
        limit: Some(SessionLimit::EndOldest(1)),
        ..link_at(start)
    };
    let outcomes = race(TASKS, |task| {
        let store = store.clone();
        async move {
            done(
                index(&store)
                    .link("alice", &handle(task as u64), &link)
                    .await,
            )
        }
    });
    let mut seen: Vec<_> = outcomes
        .await
        .into_iter()
        .map(|outcome| match outcome {
            Linked::Done(others) => others.len(),
            other => panic!("link: {other:?}"),
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..TASKS).collect::<Vec<_>>(),
        "two links were not one after the other"
    );
}

/// A link that meets a mark is refused, or was there before it, and is on the list that is read after it:
/// none slips through.
pub async fn a_link_among_marks_is_listed_or_refused(store: Arc<dyn SessionStore>) {
    for whose in ["alice", "everyone"] {
        for round in 0..40 {
            // A mark for everyone that an earlier round left refuses nothing of this one.
            let start = now() + MINUTE * 2 * round as u32;
            let number = handle(round);
            let user_id = format!("{whose} {round}");
            let outcomes = race(2, |task| {
                let (store, user_id) = (store.clone(), user_id.clone());
                async move {
                    let index = index(&store);
                    if task == 0 {
                        let link = link_at(start);
                        let outcome = index.link(&user_id, &number, &link).await;
                        return done(outcome) != Linked::Overtaken;
                    }
                    let mark = match user_id.starts_with("everyone") {
                        true => Whose::Everyone,
                        false => Whose::User(&user_id),
                    };
                    done(index.mark(mark, start - MINUTE).await);
                    !listed(&store, &user_id, start).await.is_empty()
                }
            });
            if let [true, false] = outcomes.await[..] {
                let slipped = !listed(&store, &user_id, start).await.is_empty();
                assert!(
                    !slipped,
                    "a login slipped past the mark and the list after it"
                );
            }
        }
    }
}

/// `delete_linked` deletes the records of all linked sessions, in as many steps as it takes, and nothing
/// else; and takes them from the lists.
pub async fn delete_linked_takes_all_that_is_linked(store: Arc<dyn SessionStore>) {
    let subject = Subject(store.clone());
    let start = now();
    for number in 0..20 {
        subject
            .create(&handle(number), &record(number, start + HOUR))
            .await;
    }
    for number in 0..15 {
        let user_id = format!("user {}", number % 7);
        linked(&store, &user_id, number, &link_at(start)).await;
    }
    let (mut deleted, mut from, mut steps) = (0, None, 0);
    loop {
        let step = done(index(&store).delete_linked(from.as_ref(), 4).await);
        deleted += step.deleted;
        steps += 1;
        assert!(steps < 1_000, "delete_linked comes to no end");
        from = match step.next {
            None => break,
            next => next,
        };
    }
    assert_eq!(deleted, 15);
    for number in 0..20 {
        let there = subject.load(&handle(number)).await.is_some();
        assert_eq!(there, number >= 15, "record {number}");
    }
    for user in 0..7 {
        assert!(
            listed(&store, &format!("user {user}"), start)
                .await
                .is_empty()
        );
    }
}

/// A `link` that is dropped half-way has listed the session, or has not; the next ones work.
pub async fn a_dropped_link_takes_effect_wholly_or_not(store: Arc<dyn SessionStore>) {
    let start = now();
    for polls in 0..40 {
        let user_id = format!("user {polls}");
        let link = link_at(start);
        let outcome = poll_times(index(&store).link(&user_id, &handle(1), &link), polls).await;
        let list = listed(&store, &user_id, start).await;
        match outcome {
            Some(outcome) => {
                assert_eq!(done(outcome), Linked::Done(Vec::new()));
                assert_eq!(list, [handle(1)]);
            }
            None => assert!(list.len() <= 1),
        }
        linked(&store, &user_id, 1, &link).await;
        assert_eq!(listed(&store, &user_id, start).await, [handle(1)]);
    }
}
