//! Which message may be delivered to which group now: pure, no bytes, no disk, no clock.
