//! Publishing and subscribing through the proxy.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::proxy::{cluster, key_at, slot_of};
use crate::support::wire::{Wire, request};

/// Sends a request and gives so many replies, or what is published meanwhile.
async fn hear(wire: &mut Wire, words: &str, replies: usize) -> Vec<String> {
    wire.ask(words).await;
    wire.replies(replies).await
}

/// Publishes until the subscriber hears it: which message it was.
async fn until_heard(publisher: &mut Wire, subscriber: &mut Wire, channel: &str) -> String {
    eventually("a message is heard", Duration::from_secs(10), async || {
        let heard = publisher.call(&format!("PUBLISH {channel} again")).await;
        (heard == ":1").then_some(())
    })
    .await;
    subscriber.reply().await
}

#[tokio::test]
async fn subscriber_hears_what_is_published_wherever_channels_live() {
    let (_backends, proxy) = cluster(3, "").await;
    for (hello, sign) in [("HELLO 2", "*"), ("HELLO 3", ">")] {
        let (mut subscriber, mut publisher) = (proxy.wire().await, proxy.wire().await);
        subscriber.call(hello).await;
        assert_eq!(
            hear(&mut subscriber, "SUBSCRIBE a b c", 3).await,
            [
                format!("{sign}[$subscribe $a :1]"),
                format!("{sign}[$subscribe $b :2]"),
                format!("{sign}[$subscribe $c :3]")
            ]
        );
        assert_eq!(
            hear(&mut subscriber, "PSUBSCRIBE b* nothing", 2).await,
            [
                format!("{sign}[$psubscribe $b* :4]"),
                format!("{sign}[$psubscribe $nothing :5]")
            ]
        );
        assert_eq!(
            hear(&mut subscriber, "SSUBSCRIBE a s", 2).await,
            [
                format!("{sign}[$ssubscribe $a :1]"),
                format!("{sign}[$ssubscribe $s :2]")
            ]
        );
        assert_eq!(publisher.call("PUBLISH a 1").await, ":1");
        assert_eq!(subscriber.reply().await, format!("{sign}[$message $a $1]"));
        assert_eq!(publisher.call("SPUBLISH a 2").await, ":1");
        assert_eq!(subscriber.reply().await, format!("{sign}[$smessage $a $2]"));
        assert_eq!(publisher.call("PUBLISH b 3").await, ":2");
        assert_eq!(subscriber.reply().await, format!("{sign}[$message $b $3]"));
        assert_eq!(subscriber.reply().await, format!("{sign}[$pmessage $b* $b $3]"));
        assert_eq!(publisher.call("PUBLISH bcd 4").await, ":1");
        assert_eq!(subscriber.reply().await, format!("{sign}[$pmessage $b* $bcd $4]"));
        assert_eq!(publisher.call("PUBLISH nobody 5").await, ":0");
        assert_eq!(
            hear(&mut subscriber, "UNSUBSCRIBE b x", 2).await,
            [
                format!("{sign}[$unsubscribe $b :4]"),
                format!("{sign}[$unsubscribe $x :4]")
            ]
        );
        eventually("the server knows that", Duration::from_secs(5), async || {
            (publisher.call("PUBSUB NUMSUB b").await == "*[$b :0]").then_some(())
        })
        .await;
        assert_eq!(publisher.call("PUBLISH b 6").await, ":1");
        assert_eq!(subscriber.reply().await, format!("{sign}[$pmessage $b* $b $6]"));
        hear(&mut subscriber, "PUNSUBSCRIBE", 2).await;
        hear(&mut subscriber, "SUNSUBSCRIBE", 2).await;
        hear(&mut subscriber, "UNSUBSCRIBE", 2).await;
        let nothing = if sign == ">" { "_" } else { "$-" };
        assert_eq!(
            hear(&mut subscriber, "UNSUBSCRIBE", 1).await,
            [format!("{sign}[$unsubscribe {nothing} :0]")]
        );
        // Nobody is told of what nobody wants any more, the server included.
        eventually("the server knows", Duration::from_secs(5), async || {
            (publisher.call("PUBLISH a 7").await == ":0").then_some(())
        })
        .await;
        assert_eq!(subscriber.call("SET x 1").await, "+OK");
    }
}

#[tokio::test]
async fn resp2_subscriber_may_only_listen_and_resp3_subscriber_may_do_all() {
    let (backends, proxy) = cluster(1, "").await;
    let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
    for words in [
        "SUBSCRIBE a",
        "GET x",
        "MULTI",
        "PING",
        "PING x",
        "HELLO 3",
        "SSUBSCRIBE b",
        "UNSUBSCRIBE a",
        "GET x",
        "SUNSUBSCRIBE b",
        "GET x",
        "PUNSUBSCRIBE nosuch",
        "SUBSCRIBE a",
        "RESET",
        "GET x",
        "SUBSCRIBE",
    ] {
        assert_eq!(through.call(words).await, direct.call(words).await, "{words}");
    }
    let mut three = proxy.wire().await;
    three.call("HELLO 3").await;
    assert_eq!(three.call("SUBSCRIBE a").await, ">[$subscribe $a :1]");
    assert_eq!(three.call("SET x 1").await, "+OK");
    assert_eq!(three.call("PING").await, "+PONG");
    // Its own message comes before or after the count, never inside of it.
    let mut heard = hear(&mut three, "PUBLISH a 1", 2).await;
    heard.sort();
    assert_eq!(heard, [":1", ">[$message $a $1]"]);
    three.call("MULTI").await;
    assert!(
        three
            .call("SUBSCRIBE b")
            .await
            .contains("in a transaction is not allowed")
    );
    assert!(three.call("EXEC").await.starts_with("-EXECABORT"));
}

#[tokio::test]
async fn one_connection_serves_all_subscribers_of_a_worker() {
    let (backends, proxy) = cluster(1, "").await;
    let mut server = backends[0].wire().await;
    let mut subscribers = Vec::new();
    for _ in 0..20 {
        let mut wire = proxy.wire().await;
        assert_eq!(wire.call("SUBSCRIBE a").await, "*[$subscribe $a :1]");
        subscribers.push(wire);
    }
    let feeds = server.call("CLIENT LIST TYPE pubsub").await.matches("id=").count();
    assert!((1..=2).contains(&feeds), "{feeds}");
    for number in 0..100 {
        server.call(&format!("PUBLISH a {number}")).await;
    }
    for wire in &mut subscribers {
        for number in 0..100 {
            assert_eq!(wire.reply().await, format!("*[$message $a ${number}]"));
        }
    }
    drop(subscribers);
    eventually(
        "the subscriptions end with their clients",
        Duration::from_secs(5),
        async || (server.call("PUBLISH a x").await == ":0").then_some(()),
    )
    .await;
}

#[tokio::test]
async fn confirmation_comes_before_what_is_published_and_in_the_order_of_requests() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut publisher = proxy.wire().await;
    for _ in 0..20 {
        let mut wire = proxy.wire().await;
        let requests = [
            "SET {a} 1",
            "GET {a}",
            "SUBSCRIBE a b",
            "UNSUBSCRIBE a b",
            "SUBSCRIBE b",
        ];
        wire.ask_all(&requests).await;
        for reply in [
            "+OK",
            "$1",
            "*[$subscribe $a :1]",
            "*[$subscribe $b :2]",
            "*[$unsubscribe $a :1]",
            "*[$unsubscribe $b :0]",
            "*[$subscribe $b :1]",
        ] {
            assert_eq!(wire.reply().await, reply);
        }
        publisher.call("PUBLISH b x").await;
        assert_eq!(wire.reply().await, "*[$message $b $x]");
    }
}

#[tokio::test]
async fn subscriptions_follow_their_slot() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    api.fill_slots(&[slot_of("a", &backends[0].addr(), 2)]).await.unwrap();
    let (mut subscriber, mut publisher) = (proxy.wire().await, proxy.wire().await);
    subscriber.call("SUBSCRIBE a").await;
    subscriber.call("PSUBSCRIBE a?").await;
    api.fill_slots(&[slot_of("a", &backends[1].addr(), 3)]).await.unwrap();
    assert_eq!(
        until_heard(&mut publisher, &mut subscriber, "a").await,
        "*[$message $a $again]"
    );
    let mut former = backends[0].wire().await;
    eventually("the former server is left", Duration::from_secs(5), async || {
        (former.call("PUBLISH a x").await == ":0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn subscriptions_come_back_after_a_server_was_lost() {
    let (mut backends, proxy) = cluster(2, "").await;
    let (mut subscriber, mut publisher) = (proxy.wire().await, proxy.wire().await);
    subscriber.call("SUBSCRIBE a").await;
    subscriber.call("SUBSCRIBE b").await;
    for backend in &mut backends {
        backend.restart().await;
    }
    for channel in ["a", "b"] {
        assert_eq!(
            until_heard(&mut publisher, &mut subscriber, channel).await,
            format!("*[$message ${channel} $again]")
        );
    }
}

#[tokio::test]
async fn pattern_is_subscribed_to_while_a_server_is_lost_and_there_when_it_is_back() {
    let (mut backends, proxy) = cluster(2, "").await;
    let lost = key_at(1, 2);
    let (mut subscriber, mut publisher) = (proxy.wire().await, proxy.wire().await);
    backends[1].process.kill();
    let began = Instant::now();
    assert_eq!(
        hear(&mut subscriber, "PSUBSCRIBE k*", 1).await,
        ["*[$psubscribe $k* :1]"]
    );
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let there = key_at(0, 2);
    assert_eq!(publisher.call(&format!("PUBLISH {there} 1")).await, ":1");
    assert_eq!(subscriber.reply().await, format!("*[$pmessage $k* ${there} $1]"));
    backends[1].restart().await;
    let heard = until_heard(&mut publisher, &mut subscriber, &lost).await;
    assert_eq!(heard, format!("*[$pmessage $k* ${lost} $again]"));
}

#[tokio::test]
async fn hung_server_fails_a_subscription_in_time() {
    let (backends, proxy) = cluster(1, "").await;
    backends[0].process.signal("STOP");
    let mut wire = proxy.wire().await;
    assert_eq!(
        wire.call("SUBSCRIBE a").await,
        "-ERR handle response, backend conn reset"
    );
    assert_eq!(wire.call("PING").await, "+PONG");
    backends[0].process.signal("CONT");
    assert_eq!(wire.call("SUBSCRIBE a").await, "*[$subscribe $a :1]");
}

#[tokio::test]
async fn subscriber_that_never_reads_is_closed_and_others_go_on() {
    let (backends, proxy) = cluster(1, "").await;
    let (mut deaf, mut other) = (proxy.wire().await, proxy.wire().await);
    deaf.call("SUBSCRIBE a").await;
    other.call("SUBSCRIBE a").await;
    let mut publisher = backends[0].wire().await;
    let api = proxy.api().await;
    let text = "x".repeat(1 << 20);
    let message = request(&["PUBLISH", "a", &text]);
    eventually("the deaf one is closed", Duration::from_secs(20), async || {
        publisher.send(&message).await;
        publisher.reply().await;
        assert!(other.reply().await.starts_with("*[$message $a $xxx"));
        (api.stats().await.unwrap().sessions.alive == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn subscriptions_of_all_servers_are_told_as_one_server_would() {
    let (backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    for words in [
        "PUBSUB CHANNELS",
        "PUBSUB SHARDCHANNELS",
        "PUBSUB NUMSUB",
        "PUBSUB SHARDNUMSUB",
    ] {
        assert_eq!(wire.call(words).await, "*[]", "{words}");
    }
    assert_eq!(wire.call("PUBSUB NUMPAT").await, ":0");
    let mut subscriber = proxy.wire().await;
    hear(&mut subscriber, "SUBSCRIBE a b c news", 4).await;
    hear(&mut subscriber, "PSUBSCRIBE n* m*", 2).await;
    hear(&mut subscriber, "SSUBSCRIBE a s", 2).await;
    for hello in ["HELLO 2", "HELLO 3"] {
        wire.call(hello).await;
        assert_eq!(wire.call("PUBSUB CHANNELS").await, "*[$a $b $c $news]");
        assert_eq!(wire.call("PUBSUB CHANNELS n*").await, "*[$news]");
        assert_eq!(wire.call("PUBSUB NUMPAT").await, ":2");
        assert_eq!(wire.call("PUBSUB NUMSUB a nosuch c").await, "*[$a :1 $nosuch :0 $c :1]");
        assert_eq!(wire.call("PUBSUB SHARDCHANNELS").await, "*[$a $s]");
        assert_eq!(wire.call("PUBSUB SHARDNUMSUB s b").await, "*[$s :1 $b :0]");
    }
    // Whoever subscribed past the proxy counts too, wherever that was.
    for backend in &backends {
        let mut direct = backend.wire().await;
        assert_eq!(direct.call("SUBSCRIBE a").await, "*[$subscribe $a :1]");
        assert!(wire.call("PUBSUB NUMSUB a").await.starts_with("*[$a :2"));
        drop(direct);
        eventually("it left", Duration::from_secs(5), async || {
            (wire.call("PUBSUB NUMSUB a").await == "*[$a :1]").then_some(())
        })
        .await;
    }
    for wrong in ["PUBSUB NOSUCH", "PUBSUB NUMPAT x", "PUBSUB HELP"] {
        assert!(wire.call(wrong).await.starts_with("-ERR"), "{wrong}");
    }
}
