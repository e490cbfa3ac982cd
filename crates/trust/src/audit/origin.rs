//! Where a request comes from: the network address of its client, for the audit, and the door that it came
//! in by, which is told when it turns out who asks.
//!
//! It goes with the request's own task, because each of the many functions that records something
//! would have to be handed it otherwise, and one that forgot would leave it out. What goes on after
//! the answer, by itself, has no client.

use std::net::IpAddr;
use std::sync::Arc;

/// Who lets requests in, and bounds how many of strangers are under way apart from those of the people and systems
/// that are known.
pub trait Door: Send + Sync {
    /// It has turned out who asks. Whether there is room for one more of those; if not, whoever has let the request
    /// in answers it.
    fn known(&self) -> bool;
}

struct Origin {
    client: Option<IpAddr>,
    door: Option<Arc<dyn Door>>,
}

tokio::task_local! {
    static ORIGIN: Origin;
}

/// Does the work of a request that came from this address.
pub async fn at<F: Future>(client: IpAddr, work: F) -> F::Output {
    by(Some(client), None, work).await
}

/// Does the work of a request that came from an address, if that is known, by a door, if there is one.
pub async fn by<F: Future>(
    client: Option<IpAddr>,
    door: Option<Arc<dyn Door>>,
    work: F,
) -> F::Output {
    let client = client.map(|client| client.to_canonical());
    ORIGIN.scope(Origin { client, door }, work).await
}

/// The address of the request under way, to go on under it ([`at`]) with what answers it later: a page that stays
/// open.
#[must_use]
pub fn current() -> Option<IpAddr> {
    client()
}

/// The address that the request under way came from, if one is.
pub(crate) fn client() -> Option<IpAddr> {
    ORIGIN.try_with(|origin| origin.client).ok().flatten()
}

/// Tells the door that it has turned out who asks. Where there is no room for them this never returns: the door
/// answers, and gives the work up, so nothing is done for a request that is refused. Of people and systems this crate
/// tells by itself; others tell it who find out that it is somebody who is known, as a provider by its signature.
pub async fn known() {
    let is_let_in = ORIGIN.try_with(|origin| origin.door.as_ref().is_none_or(|door| door.known()));
    if !is_let_in.unwrap_or(true) {
        std::future::pending::<()>().await;
    }
}
