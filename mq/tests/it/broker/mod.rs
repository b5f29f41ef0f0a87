//! One behaviour for every backend: what a program may rely on when it knows only the trait and the capabilities.
//!
//! A server has a clock of its own, so these tests wait in real time; leases and delays are as short as they can be told
//! from the noise of a busy machine.

mod bench;
mod deliveries;
mod failures;
mod limits;
mod sending;
#[cfg(feature = "nats")]
mod server;

use bench::{Backend, Bench};

/// Each behaviour on each backend.
macro_rules! behaviours {
    ($($module:ident :: $name:ident,)*) => {
        mod memory {
            $(#[test] fn $name() { super::run(super::Backend::Memory, super::$module::$name); })*
        }
        mod directory {
            $(#[test] fn $name() { super::run(super::Backend::Directory, super::$module::$name); })*
        }
        #[cfg(feature = "nats")]
        mod nats {
            $(#[test] fn $name() { super::run(super::Backend::Nats, super::$module::$name); })*
        }
    };
}

behaviours! {
    sending::what_is_sent_is_received_in_order_and_acked_once,
    sending::a_batch_keeps_its_order,
    sending::everything_of_a_message_arrives,
    sending::a_second_message_of_an_id_is_not_queued,
    sending::a_delayed_message_comes_when_its_time_has_come,
    sending::an_expired_message_is_a_dead_letter,
    sending::a_higher_priority_comes_first_or_is_refused,
    sending::a_key_keeps_its_order_or_is_refused,
    deliveries::a_nacked_message_comes_again,
    deliveries::a_lease_that_ends_delivers_again_and_refuses_the_late_ack,
    deliveries::an_extended_lease_lasts,
    deliveries::a_message_that_is_nacked_too_often_is_a_dead_letter,
    deliveries::a_message_whose_consumers_die_is_a_dead_letter,
    deliveries::a_rejected_message_is_requeued_for_its_group,
    deliveries::groups_get_everything_and_consumers_share,
    deliveries::a_group_can_be_made_and_removed,
    deliveries::a_receiver_that_waits_is_woken,
    deliveries::a_receive_that_is_dropped_loses_nothing,
    deliveries::a_durable_ack_outlives_the_connection,
    limits::a_full_queue_hands_the_message_back,
    limits::a_batch_that_waits_for_room_keeps_no_thread,
    limits::bad_messages_are_refused_by_type,
    limits::receipts_are_good_once_and_in_their_queue,
    limits::a_purge_empties_it_and_counts_say_so,
    limits::a_closed_queue_says_so,
}

fn run<F: Future<Output = ()>>(backend: Backend, behaviour: impl FnOnce(Bench) -> F) {
    let Some(bench) = Bench::new(backend) else { return };
    runtime().block_on(behaviour(bench));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
