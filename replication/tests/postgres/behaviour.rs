//! What every driver must do, here on servers.

use super::fixture::Servers;
use super::suite::suite;

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
