//! A partner that is away: it is left alone, which operators are told, and calls to others go on.

use crate::house::House;
use crate::patience::Patience;

use super::*;

/// What operators are told at a path.
async fn told(house: &House, path: &str) -> String {
    let url = format!("http://{}{path}", house.server.address());
    let answer = house.http.get(url).send().await.expect("an answer");
    answer.text().await.expect("words")
}

async fn until(house: &House, path: &str, is_so: impl Fn(&str) -> bool) {
    let mut patience = Patience::new();
    loop {
        let told = told(house, path).await;
        if is_so(&told) {
            return;
        }
        // Calls are made again, so that it is found out again that it is away.
        house.clock.advance(250);
        let lines = told.lines().filter(|line| line.contains("breaker"));
        let lines: Vec<&str> = lines.collect();
        patience.wait(&format!("{path} is not so: {lines:?}")).await;
    }
}

fn state(partner: &str, state: u8) -> String {
    format!("cairn_breaker_state{{channel=\"calls\",provider=\"{partner}\"}} {state}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_away_is_left_alone_and_others_are_called() {
    let scene = Scene::new().await;
    // Nobody is at the one's address.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let both = |rides: u16| {
        let of = |port| partners(port, &scene.secret, "2026-12-31", "'identity', 'contact'");
        let meals = of(scene.partner.port).replace("'rides'", "'meals'");
        format!("{}{meals}", of(rides))
    };
    let put_both = async |rides: u16| {
        policies::put(&scene.policies, "partners.toml", &both(rides));
        let base = format!("http://127.0.0.1:{rides}");
        let mut patience = Patience::new();
        let trust = scene.house.server.trust();
        let in_force = || {
            trust
                .partner("rides")
                .is_some_and(|known| known.base == base)
        };
        while !in_force() {
            patience.wait("the partners are not in force").await;
        }
    };
    put_both(port).await;
    let ride = journey("ride", "odd");
    let meal = journey("meal", "ok").replace("partner: rides", "partner: meals");
    for source in [ride, meal] {
        let (status, said) = scene.publish(&source).await;
        assert_eq!(status, 200, "{said}");
    }
    let ready = "deliveries pause, because the other side can't be reached or wants fewer: calls\n";
    assert!(!told(&scene.house, "/health/ready").await.contains("pause"));
    for number in 0..6 {
        scene.discharge(&format!("r{number}"), "odd").await;
    }
    until(&scene.house, "/metrics", |told| {
        told.contains(&state("rides", 2))
    })
    .await;
    until(&scene.house, "/health/ready", |told| told.contains(ready)).await;
    assert!(
        told(&scene.house, "/metrics")
            .await
            .contains(&state("meals", 0))
    );
    // Who isn't away is called meanwhile.
    scene.discharge("m1", "ok").await;
    scene.until_work("m1", "Tell them ok").await;
    let got = scene.partner.got();
    assert!(got.iter().all(|asked| asked["path"] == "/ok/bookings"));
    // It is back: one call goes first, and finds that out.
    put_both(scene.partner.port).await;
    scene.discharge("r9", "odd").await;
    scene.until_work("r9", "Tell them odd").await;
    until(&scene.house, "/metrics", |told| {
        told.contains(&state("rides", 0))
    })
    .await;
    until(&scene.house, "/health/ready", |told| {
        !told.contains("pause")
    })
    .await;
    scene.house.end().await;
}
