//! What every driver must do, here on servers.

use super::fixture::{Servers, is_left_out};
use super::suite::suite;
use super::supervised;

suite! { Servers:
    a_session_reads_its_writes_over_lag
    a_wait_is_bounded_and_says_how_far_it_got
    a_transaction_is_all_or_nothing
    marks_cover_what_was_written_and_seen
    reads_and_replicas_refuse_to_write
    a_fenced_primary_never_writes_again
    a_lower_ballot_is_refused_by_all_calls
    an_old_primary_rejoins_without_what_it_alone_had
    a_write_that_too_few_confirm_is_ambiguous
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_primary_is_replaced_and_rejoins_by_itself() {
    if !is_left_out() {
        supervised::a_lost_primary_is_replaced_and_rejoins_by_itself::<Servers>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_loses_nothing_over_failovers() {
    if !is_left_out() {
        supervised::a_quorum_loses_nothing_over_failovers::<Servers>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_change_fails_no_write() {
    if !is_left_out() {
        supervised::a_planned_change_fails_no_write::<Servers>().await;
    }
}
