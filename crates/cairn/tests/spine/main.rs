//! National services over their published protocols, at the real server. A binary of its own, so that who works on
//! them builds these tests alone; the server and its clients are those of the other tests.

#[allow(dead_code, reason = "the tests of the server use the rest")]
#[path = "../server/house.rs"]
mod house;

mod demographics;
