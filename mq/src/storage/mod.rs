//! Where the log lies: real files, memory, a faulty disk for tests.
