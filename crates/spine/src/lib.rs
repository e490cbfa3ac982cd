//! What a national spine knows about people and places, as services over the record: which records
//! are of one person, and who somebody is by what others know of them.
//!
//! It keeps no store of its own. What it reads and writes goes through [`record`] and [`trust`], under
//! the permit and with the audit leaf that any other client's request has. It takes no request and
//! knows no server of HTTP: `cairn` leads requests here.
//!
//! Start reading at [`matching`], which compares two persons and is a function of what it is given, or at
//! [`demographics`], which tells who somebody is by number; [`asking`] is `Patient/$match`.

pub mod asking;
pub mod demographics;
pub mod matching;
