//! Where in a cluster the commands go.

use super::*;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_read_routing::RandomReplicaStrategy;

fn urls() -> Option<Vec<String>> {
    let urls = servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS")?;
    Some(urls.split(',').map(str::to_owned).collect())
}

async fn ask(url: &str, words: &[&str]) -> String {
    let mut connection = connect(url.to_owned()).await;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn replicas_are_asked_nothing_even_if_the_client_reads_from_them() {
    let Some(urls) = urls() else { return };
    let client = ClusterClientBuilder::new(urls.clone())
        .read_routing_strategy(RandomReplicaStrategy)
        .build()
        .unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    for _ in 0..50 {
        let handle = handle(rand::random());
        store.create(&handle, &record(1)).await.unwrap();
        assert!(store.load(&handle).await.unwrap().is_some());
        assert!(store.delete(&handle).await.unwrap());
    }
    let mut replicas = 0;
    for url in &urls {
        if ask(url, &["INFO", "replication"])
            .await
            .contains("role:slave")
        {
            replicas += 1;
            let statistics = ask(url, &["INFO", "commandstats"]).await;
            assert!(!statistics.contains("cmdstat_get"), "{statistics}");
        }
    }
    assert!(replicas > 0, "the cluster has no replica");
}

#[tokio::test]
async fn scripts_survive_a_flush_of_every_nodes_scripts() {
    let Some(urls) = urls() else { return };
    let client = ClusterClientBuilder::new(urls.clone()).build().unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let number = rand::random();
    for url in &urls {
        ask(url, &["SCRIPT", "FLUSH"]).await;
    }
    store.create(&handle(number), &record(1)).await.unwrap();
    update_and_touch(&store, number).await;
    assert!(store.delete(&handle(number)).await.unwrap());
}

#[tokio::test]
async fn an_ending_waits_for_the_replica_of_its_own_master() {
    let Some(urls) = urls() else { return };
    let client = ClusterClientBuilder::new(urls).build().unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap());
    let waiting = client.get_async_connection().await.unwrap();
    let with_one = store
        .clone()
        .wait_for_replicas(1, Duration::from_secs(30), waiting.clone());
    let with_two = store.wait_for_replicas(2, Duration::from_millis(500), waiting);
    for _ in 0..4 {
        let handle = handle(rand::random());
        with_one.create(&handle, &record(1)).await.unwrap();
        let error = with_two.delete(&handle).await.unwrap_err();
        assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
        assert!(!with_one.delete(&handle).await.unwrap());
    }
}
