//! A table that is partitioned by the hash of the handle, as the page on sizing has it made.

use super::*;

const PARTITIONS: u32 = 4;

#[tokio::test]
async fn migrating_finds_a_partitioned_table_complete_and_leaves_it_as_it_is() {
    let place = place!();
    let store = place.partitioned(1, PARTITIONS).await;
    let relations =
        "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE nspname";
    let relations = format!("{relations} = '{}'", place.schema);
    let before = ask(store.pool(), &relations).await;
    store.migrate().await.unwrap();
    assert_eq!(ask(store.pool(), &relations).await, before);
    every_operation_works(&store).await;
}

#[tokio::test]
async fn migrating_adds_the_indexes_that_a_partitioned_table_lacks_on_every_partition() {
    let place = place!();
    let store = place.partitioned(1, PARTITIONS).await;
    let indexes = format!(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = '{}'",
        place.schema
    );
    let before = ask(store.pool(), &indexes).await;
    // Not by `pg_indexes`, which may look at an index that another test drops meanwhile.
    let of_sweeps = format!(
        "SELECT nspname || '.' || relname FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = relnamespace
        JOIN pg_attribute ON attrelid = c.oid AND attname = 'sweep_at'
        WHERE nspname = '{}' AND relkind = 'I'",
        place.schema
    );
    let of_sweeps: String = sqlx::query_scalar(AssertSqlSafe(of_sweeps))
        .fetch_one(store.pool())
        .await
        .unwrap();
    run(store.pool(), &format!("DROP INDEX {of_sweeps}")).await;
    let without = ask(store.pool(), &indexes).await;
    assert_eq!(before - without, i64::from(PARTITIONS) + 1);

    store.migrate().await.unwrap();
    assert_eq!(ask(store.pool(), &indexes).await, before);
    every_operation_works(&store).await;
}

#[tokio::test]
async fn sessions_spread_over_the_partitions_and_a_sweep_takes_the_first_to_expire_of_all() {
    let place = place!();
    let store = place.partitioned(1, PARTITIONS).await;
    for number in 0..200_u8 {
        let handle = Handle::from_bytes([number; 16]);
        let expires_at = NOW - HOUR + i64::from(number);
        store.create(&handle, &record(1, expires_at)).await.unwrap();
    }
    for partition in 0..PARTITIONS {
        let sql = format!("SELECT count(*) FROM {}_{partition}", place.table());
        assert!(ask(store.pool(), &sql).await > 0, "{partition}");
    }

    assert_eq!(store.delete_expired(now(), 50).await.unwrap(), 50);
    for number in 0..200_u8 {
        let handle = Handle::from_bytes([number; 16]);
        let is_there = store.load(&handle).await.unwrap().is_some();
        assert_eq!(is_there, number >= 50, "{number}");
    }
    assert_eq!(store.delete_expired(now(), 1_000).await.unwrap(), 150);
}

#[tokio::test]
async fn an_operation_looks_into_one_partition_and_a_sweep_goes_over_the_indexes() {
    let place = place!();
    let store = place.partitioned(1, PARTITIONS).await;
    let pool = place.pool(1).await;
    run(
        &pool,
        &format!(
            "INSERT INTO {0} SELECT decode(md5(n::text), 'hex'), 1, 0, {NOW} + n * 1000, NULL, '\\x00',
            {NOW} + n * 1000
            FROM generate_series(-500, 20000) AS n; ANALYZE {0};
            INSERT INTO {0}_links SELECT convert_to('user ' || n, 'UTF8'), decode(md5(n::text), 'hex'),
            0, {NOW} + n * 1000, false FROM generate_series(-500, 20000) AS n; ANALYZE {0}_links;
            INSERT INTO {0}_marks SELECT convert_to('user ' || n, 'UTF8'), {NOW} + n * 1000
            FROM generate_series(-500, 20000) AS n; ANALYZE {0}_marks",
            place.table()
        ),
    )
    .await;
    let handle = format!("'\\x{HANDLE}'");
    let new = record(2, NOW + HOUR);
    store.create(&HANDLE, &new).await.unwrap();

    store.update(&HANDLE, &new, v(2), now()).await.unwrap();
    let update = last_statement(&store, &pool).await;
    let update_arguments = format!("{handle}, 2, {NOW}, 3, {NOW}, {NOW}, NULL, '\\x00'");
    store.touch(&HANDLE, now(), v(2), now()).await.unwrap();
    let touch = last_statement(&store, &pool).await;
    store.load(&HANDLE).await.unwrap();
    let load = last_statement(&store, &pool).await;
    store.delete(&HANDLE).await.unwrap();
    let delete = last_statement(&store, &pool).await;
    for (statement, arguments) in [
        (update, update_arguments),
        (touch, format!("{handle}, 2, {NOW}, {NOW}")),
        (load, handle.clone()),
        (delete, handle),
    ] {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let plan = plan(&pool, &statement, &arguments, mode).await;
            assert_eq!(partitions_of(&plan), 1, "{plan}");
            assert!(!plan.contains("Seq Scan"), "{plan}");
        }
    }

    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 10);
    let sweep = sweep_statement(&store).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = plan(&pool, &sweep, &format!("{NOW}, 100, {NOW}, 100"), mode).await;
        assert!(plan.contains("Merge Append"), "{plan}");
        assert!(
            !plan.contains("Seq Scan") && !plan.contains("Sort  "),
            "{plan}"
        );
    }
}

/// How many partitions a plan reads.
fn partitions_of(plan: &str) -> usize {
    (0..PARTITIONS)
        .filter(|partition| {
            plan.lines()
                .filter(|line| line.contains("Scan"))
                .any(|line| line.contains(&format!(" on cloakroom_sessions_{partition} ")))
        })
        .count()
}
