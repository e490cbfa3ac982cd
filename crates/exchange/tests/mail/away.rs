//! A provider of text messages that is away: it is left alone after five failures, others go on, and one message goes first
//! to see whether it is back.

use std::time::Duration;

use exchange::{BreakerStanding, Breakers, SmsProvider};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use trust::attempts::Did;

use crate::attempts::dids;
use crate::patience::Patience;
use crate::peer::Peer;
use crate::provider::Provider;
use crate::texts::{mobile, text};
use crate::world::World;

/// Waits until the one breaker of something that delivers stands so.
async fn until(breakers: &Breakers, standing: BreakerStanding) {
    let mut patience = Patience::new();
    while breakers.now()[0].standing != standing {
        patience.wait(&format!("{standing:?}: {breakers:?}")).await;
    }
}

/// Leads whoever comes to a port on to another.
fn lead_on(listener: TcpListener, to: u16) {
    tokio::spawn(async move {
        while let Ok((mut come, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut there = TcpStream::connect(("127.0.0.1", to)).await.expect("there");
                let _ = copy_bidirectional(&mut come, &mut there).await;
            });
        }
    });
}

#[tokio::test]
async fn a_provider_that_is_away_is_left_alone_and_others_go_on() {
    let world = World::new().await;
    let provider = Provider::start().await;
    let peer = Peer::start(&[]).await;
    let patient = world.patient(&mobile("(617) 555-0142")).await;
    let other = world.patient(&[]).await;
    // Nobody is at the provider's address.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut options = provider.options();
    let SmsProvider::Http(twilio) = &mut options.provider else {
        panic!("by HTTP")
    };
    let there = twilio.base.rsplit_once(':').expect("a port").1.to_owned();
    twilio.base = format!("http://{address}");
    options.parallel = 1;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(world.queue(&patient, text).await);
    }
    let (texts, away) = world.run_texts_seen(options);
    let (mails, there_still) = world.run_seen(world.options(peer.port));
    until(&away, BreakerStanding::Open).await;
    // The breaker opens before it is written of the fifth that it was put off.
    let mut tried = 0;
    for _ in 0..200 {
        tried = 0;
        for id in &ids {
            let found = world.communication(&patient, id).await;
            tried += usize::from(dids(&found) == [Did::PutOff]);
        }
        if tried >= 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(tried, 5, "five in a row, and no more");
    // E-mail knows nothing of it.
    let mail = world.queue(&other, |_| {}).await;
    world.wait_for(&other, &mail, "completed").await;
    assert_eq!(there_still.now()[0].standing, BreakerStanding::Closed);
    assert_eq!(
        (there_still.now()[0].channel, away.now()[0].channel),
        ("mail", "sms")
    );
    mails.stop().await;

    // It is back: the first one that goes finds that out, and the rest follow.
    let listener = TcpListener::bind(address).await.expect("the port again");
    lead_on(listener, there.parse().expect("a port"));
    until(&away, BreakerStanding::Closed).await;
    world.to_next_attempt().await;
    for id in &ids {
        world.wait_for(&patient, id, "in-progress").await;
    }
    texts.stop().await;
    assert_eq!(provider.taken().len(), 7);
}
