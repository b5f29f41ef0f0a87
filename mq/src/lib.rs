//! A durable in-memory message queue.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod log;
mod state;
mod storage;
