//! The real server over its real protocols: inside this process on a free port, or as a process.

mod applied_examples;
mod applying;
mod apps;
mod around;
mod audit_log;
mod audit_people;
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with trust's tests, which use all of it"
)]
#[path = "../../../trust/src/identity/tests/authenticator.rs"]
mod authenticator;
/// The patterns of IHE BALP, as the tests of `trust` know them.
#[path = "../../../trust/src/tests/balp.rs"]
mod balp;
mod binary;
mod bodies;
mod bulk;
mod calls;
mod care_plans;
mod carriers;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/centre.rs"]
mod centre;
mod clients;
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared with the ledger's tests, which use all of it and wait in real time"
)]
#[path = "../../../ledger/tests/postgres/cluster.rs"]
mod cluster;
mod collector;
mod compliance;
mod conditional;
mod config;
mod conformance;
mod consent;
mod cors;
mod demo;
#[path = "../../../exchange/tests/mail/double.rs"]
mod double;
mod england;
mod explained;
mod fhir;
mod fhirpath;
mod filters;
mod floors;
mod hooks;
mod hostile;
mod house;
mod journey_files;
mod journeys;
mod keep;
mod labels;
mod lagging;
mod matches;
mod moto;
mod moves;
mod mutual_tls;
mod necessary;
mod once;
mod operate;
mod operations;
mod otlp;
mod own_purposes;
mod past;
mod patches;
#[path = "../../../ledger/tests/postgres/patience.rs"]
mod patience;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/peer.rs"]
mod peer;
mod policies;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/provider.rs"]
mod provider;
mod providers;
mod purposes;
mod push;
mod push_apps;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/pusher.rs"]
mod pusher;
mod rekey;
mod replies;
mod returned;
mod routes;
mod sign_in_costs;
#[allow(dead_code, reason = "trust's own tests sign with more sorts of keys")]
#[path = "../../../trust/src/identity/oauth/signer.rs"]
mod signer;
mod smart;
mod smpp;
mod sms;
mod stalled;
mod starting;
mod studio;
mod subscriptions;
mod telehealth;
#[allow(dead_code, reason = "the tests of `exchange` use the rest")]
#[path = "../../../exchange/tests/mail/telephones.rs"]
mod telephones;
mod tenants;
mod tenants_alerted;
mod tenants_apart;
mod tenants_bounded;
mod tenants_by_command;
mod tenants_costs;
mod tenants_credentials;
mod tenants_ids;
mod tenants_turns;
mod tenants_whole;
mod versions;
