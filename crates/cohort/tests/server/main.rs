//! The real binary over its real protocols: killed again and again, and searched for patient
//! details where none may be.

mod audit_log;
mod canary;
mod canary_pages;
mod crash;
mod journey;
mod peers;
