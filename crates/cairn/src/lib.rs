//! The binary: command line, configuration, HTTP routes, and the wiring of the contexts.
//!
//! Holds no rule of care, privacy or storage: those are the contexts'. What is here is thin, so that
//! a test can start all of it inside its own process with [`Server::start`].
//!
//! Start reading at [`cli`], then `server.rs` (what is wired to what) and `http/` (the routes).

mod bucket;
mod certificates;
pub mod cli;
mod client_certificates;
mod clients;
mod collector;
mod commands;
pub mod compliance;
pub mod config;
mod control;
pub mod demo;
pub mod dictionaries;
mod explaining;
mod fetching;
mod floors;
mod houses;
mod http;
mod indexer;
mod inventory;
mod key_sets;
mod operator;
mod pace;
mod place;
mod policies;
mod providers;
mod server;
pub mod store;
mod telemetry;
mod tenancy;
mod terminal;
mod witnessing;

pub use client_certificates::ClientCertificates;
pub use clients::{Addresses, ForwardedHeader, Proxies};
pub use collector::{Collector, OtlpCollector, OtlpFiles, SyslogCollector};
pub use floors::{Below, Configured, Refused};
pub use providers::{ClientAuthentication, ProviderOptions};
pub use server::{DemoPages, Ending, Server, ServerError, ServerOptions, TlsFiles};
