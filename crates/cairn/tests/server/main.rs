//! The real server over its real protocols: inside this process on a free port, or as a process.

mod audit_log;
mod binary;
mod clients;
mod conditional;
mod config;
mod conformance;
mod demo;
mod fhir;
mod fhirpath;
mod house;
mod journeys;
mod keep;
mod moto;
mod once;
mod operate;
mod operations;
mod past;
mod patches;
