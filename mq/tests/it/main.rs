//! The queue's behaviour through its public API, with the memory disk and a clock that is moved by hand.

mod bad_input;
mod bounds;
#[cfg(feature = "tokio")]
mod broker;
mod crash;
mod groups;
mod order;
mod power;
mod restart;
mod room;
mod scripts;
mod send_receive;
mod settle;
mod storm;
mod support;
mod time;
mod waiting;
