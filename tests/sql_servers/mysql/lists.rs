//! The sessions by user.

use super::*;

#[tokio::test]
async fn migrating_adds_the_lists_to_a_database_that_has_sessions_alone() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    let table = "cloakroom_sessions";
    run(
        store.pool(),
        &format!("DROP TABLE {table}_links, {table}_marks"),
    )
    .await;
    let index = store.user_index().unwrap();
    let error = index.unlink("alice", &HANDLE).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("call the store's migrate()"), "{error}");

    store.migrate().await.unwrap();
    assert!(store.load(&HANDLE).await.unwrap().is_some());
    by_user::every_operation_works(&store).await;
}

#[tokio::test]
async fn tables_of_these_names_that_are_none_of_lists_are_refused() {
    let place = place!();
    let store = place.migrated(1).await;
    let table = "cloakroom_sessions";
    for (name, change) in [
        ("links", "DROP COLUMN pending"),
        ("links", "ADD COLUMN more INTEGER"),
        ("marks", "DROP COLUMN marked_at"),
    ] {
        let sql = format!("ALTER TABLE {table}_{name} {change}");
        run(store.pool(), &sql).await;
        let error = store.migrate().await.expect_err(change);
        let named = format!("cloakroom_sessions_{name}");
        assert!(error.to_string().contains(&named), "{error}");
        run(store.pool(), &format!("DROP TABLE {table}_{name}")).await;
        store.migrate().await.unwrap();
    }
}

#[tokio::test]
async fn the_longest_name_of_a_table_leaves_room_for_the_others() {
    let place = place!();
    let store = place.store(1).await.with_table(&"a".repeat(48)).unwrap();
    for _ in 0..2 {
        store.migrate().await.unwrap();
    }
    by_user::every_operation_works(&store).await;
}

#[tokio::test]
async fn what_is_dropped_is_not_half_done_and_holds_no_lock() {
    let place = place!();
    let store = place.migrated(1).await;
    by_user::drop_everything_everywhere(&store).await;
}

#[tokio::test]
async fn users_are_told_apart_byte_by_byte() {
    let place = place!();
    by_user::users_are_told_apart_byte_by_byte(&place.migrated(1).await).await;
}

#[tokio::test]
async fn a_sweep_takes_entries_and_marks_that_are_of_no_use_any_more() {
    let place = place!();
    let store = place.migrated(1).await;
    let table = "cloakroom_sessions";
    let rows = async || {
        let links = ask(store.pool(), &format!("SELECT count(*) FROM {table}_links")).await;
        let marks = ask(store.pool(), &format!("SELECT count(*) FROM {table}_marks")).await;
        (links, marks)
    };
    by_user::a_sweep_takes_old_entries_and_marks(&store, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_endings_and_sweeps_at_once_all_succeed() {
    let place = place!();
    by_user::nothing_fails_under_load(Arc::new(place.migrated(8).await)).await;
}
