//! Segments, records, group commit, recovery; knows nothing of queues.
