//! Where a request comes from: the network address of its client, for the audit.
//!
//! It goes with the request's own task, because each of the many functions that records something
//! would have to be handed it otherwise, and one that forgot would leave it out. What goes on after
//! the answer, by itself, has no client.

use std::net::IpAddr;

tokio::task_local! {
    static CLIENT: IpAddr;
}

/// Does the work of a request that came from this address.
pub async fn at<F: Future>(client: IpAddr, work: F) -> F::Output {
    CLIENT.scope(client.to_canonical(), work).await
}

/// The address that the request under way came from, if one is.
pub(super) fn client() -> Option<IpAddr> {
    CLIENT.try_with(|client| *client).ok()
}
