//! The rows of the ledger.

use super::{Row, Status};

/// Every requirement, in order.
#[rustfmt::skip] // A requirement a line reads as the table it is.
pub const ROWS: &[Row] = &[
    tested("r01", "01", "one machine holds it all: one process owns every listening socket and keeps web, data and cache", &[
        "r01_the_process_that_serves_owns_the_sockets",
    ]),
    tested("r02", "01", "a name is resolved, the address connected to, and the answer is the JSON of user 123", &[
        "r02_name_to_address_to_json_of_user_123",
    ]),
    tested("r03", "01", "no service, no root, no network: the first request is served within a second of the start", &[
        "r03_the_first_answer_comes_within_a_second_of_nothing",
    ]),
    tested("r04", "01", "one box has a limit near theory, and its death fails every request until it is back", &[
        "r04_a_dead_box_answers_nobody_until_it_is_back",
        "r04_theory_puts_the_knee_of_the_single_box_at_164_a_second",
    ]),
    tested("r05", "02", "web and database are sized apart: twice the web changes nothing, twice the database about doubles", &[
        "r05_doubling_the_bottleneck_doubles_and_doubling_the_other_does_not",
    ]),
    tested("r06", "02", "a relational store keeps its promise: atomic, consistent, isolated and durable through a kill", &[
        "r06_a_transfer_that_fails_at_its_last_statement_leaves_nothing",
        "r06_an_acknowledged_transfer_is_there_after_the_file_is_opened_again",
        "r06_of_two_withdrawals_at_once_one_is_refused",
        "r06_rules_and_references_are_kept",
    ]),
    tested("r07", "02", "a document store takes a new field without migration, and what it gives up is shown", &[
        "r07_documents_take_new_fields_and_refuse_nothing",
    ]),
    tested("r08", "02", "a named product, PostgreSQL, takes the place of the embedded database where it is installed", &[
        "r08_postgresql_keeps_the_same_rules_where_it_is_installed",
    ]),
    tested("r09", "03, 12", "up or out: the same slots carry the same load, but one death costs all or a quarter", &[
        "r09_the_same_slots_up_or_out_are_within_15_percent",
        "r09_behind_a_balancer_the_death_of_one_of_four_costs_nobody",
        "r09_a_dead_shard_of_four_costs_its_own_users_and_is_named",
    ]),
    tested("r10", "load-balancer, 04", "clients know one address, and requests spread evenly over the servers", &[
        "r10_every_web_server_answers_its_equal_share",
    ]),
    tested("r11", "load-balancer, 04", "a killed or hung server costs no failed GET", &[
        "r11_a_dead_or_hung_server_costs_no_get",
    ]),
    tested("r12", "load-balancer, 04", "servers join and leave under load with no dropped request", &[
        "r12_servers_join_and_leave_and_no_request_is_dropped",
    ]),
    tested("r13", "04", "servers listen on private addresses only", &[
        "r13_a_server_at_a_public_address_is_refused_at_the_start_and_later",
    ]),
    tested("r14", "replication, 05", "the primary takes all writes, replicas refuse them and become equal", &[
        "r14_replicas_refuse_writes_and_become_equal_to_the_primary",
    ]),
    tested("r15", "replication, 05", "reads scale with the replicas", &[
        "r15_reads_go_to_the_replicas_and_to_the_primary_if_there_is_none",
    ]),
    tested("r16", "replication, 05", "a dead replica costs no read; a dead primary is replaced and fenced; lost writes are counted", &[
        "r16_a_promoted_replica_takes_the_writes_and_a_fenced_primary_none",
    ]),
    tested("r17", "replication, 05", "replication lag is measured, and a session never reads older than it wrote", &[
        "r17_whoever_wrote_sees_it_over_web_servers_however_late_the_replicas_are",
    ]),
    tested("r18", "05", "writes do not scale with replicas, and what they cost is printed", &[
        "r18_writes_that_stay_flat_and_their_price_are_told_from_writes_that_grow",
    ]),
    tested("r19", "lru-cache, 06", "the web tier asks the cache first, and the database sees what is left", &[
        "r19_the_database_sees_what_the_caches_miss",
    ]),
    tested("r20", "06", "cache-aside: the first read is slow, and an update needs an invalidation", &[
        "r20_without_invalidation_the_old_value_stays",
    ]),
    tested("r21", "lru-cache, lfu-cache, 06", "read-through: a hundred waiters cause one load; error, panic and cancellation poison nothing", &[
        "r21_a_hundred_readers_of_one_cold_key_make_one_query",
    ]),
    tested("r22", "lru-cache, lfu-cache, 06", "refresh-ahead: no spike when entries expire; wasted refreshes are counted", &[
        "r22_a_hit_late_in_life_serves_the_old_value_and_reloads_once",
    ]),
    tested("r23", "06", "the strategies compared in one table, every cell measured", &[
        "r23_the_table_has_a_row_a_strategy_and_a_measured_cell_a_column",
    ]),
    tested("r24", "06", "staleness after an update is bounded and counted, and the race of fill and delete is closed", &[
        "r24_a_fill_slower_than_a_write_is_refused",
        "r24_a_write_is_acknowledged_only_when_no_server_can_serve_the_old_value",
        "r24_a_write_that_a_hung_cache_server_does_not_confirm_is_refused",
    ]),
    tested("r25", "06", "when a cache pays: from a hundred reads a write to ten writes a read", &[
        "r25_every_write_costs_the_cache_the_next_hit",
        "r25_the_table_names_the_row_where_the_cache_stops_paying",
    ]),
    tested("r26", "caches, 06", "no entry is served after its time to live, and jitter spreads a mass expiry", &[
        "r26_nothing_outlives_its_time_and_jitter_spreads_the_ends",
    ]),
    tested("r27", "load-balancer, 06", "several cache servers: the loss of one of three moves a third of the keys", &[
        "r27_a_dead_cache_server_costs_hits_and_no_error",
    ]),
    tested("r28", "caches, 06", "the memory of a cache is bounded, with headroom, over ten million inserts", &[
        "r28_weight_stays_within_the_budget_at_every_instant",
    ]),
    tested("r29", "lru-cache, lfu-cache, benches", "LRU, LFU and FIFO evict the same victim as a plain model, every time", &[
        "r29_lru_and_fifo_hit_exactly_as_often_as_plain_lists_do",
    ]),
    open("r30", "cdn-edge, 07", "the nearest edge serves: miss to the origin, then hits that age"),
    open("r31", "cdn-edge, 07", "latency falls and the origin is spared"),
    open("r32", "cdn-edge, 07", "objects that are seldom asked for are kept out, and the cost saved is printed"),
    open("r33", "cdn-edge, 07", "an edge asks again when it must, forgets on purge, and serves when the origin cannot"),
    open("r34", "08", "sessions in a server's memory: its death logs its users out"),
    open("r35", "08", "sessions in the request: any server's death logs out nobody, and forged tokens are refused"),
    open("r36", "09", "DNS answers with the nearest data centre"),
    open("r37", "09", "a dead data centre: all traffic goes to the healthy one within the time promised"),
    open("r38", "09", "nearest, weighted, latency and failover routing in one table"),
    open("r39", "replication, 09", "data centres synchronise; lag, and writes lost with a centre, are counted"),
    open("r40", "09", "every node serves its build and configuration, and drift is found"),
    tested("r41", "mq, 10", "an acknowledged message survives a hundred kills of the broker", &[
        "r41_what_the_broker_accepted_it_has_after_it_was_opened_again",
    ]),
    tested("r42", "mq", "producer, consumer and message in fifteen lines", &[
        "r42_the_tour_shows_queue_producer_and_consumer_in_fifteen_lines",
    ]),
    tested("r43", "10", "producers do not notice consumers that are away", &[
        "r43_jobs_are_taken_while_nobody_works",
    ]),
    tested("r44", "10", "a burst of ten times the load is buffered, within bounds", &[
        "r44_a_full_queue_says_429_and_takes_jobs_again_when_there_is_room",
    ]),
    tested("r45", "10", "workers scale on their own, and a dead one's job is done by another", &[
        "r45_a_dead_workers_job_comes_again_and_a_poison_job_is_given_up",
    ]),
    tested("r46", "10", "thumbnails, e-mail, text messages and notifications, each exactly once", &[
        "r46_each_kind_of_job_done_twice_has_its_effect_once",
    ]),
    open("r47", "11", "one structured log line an event, one trace id from edge to worker"),
    open("r48", "11", "metrics of each host, as the system itself counts them"),
    open("r49", "11", "metrics over all hosts agree with the generator's truth"),
    open("r50", "11", "metrics of each request: latency and errors within a bucket of the truth"),
    open("r51", "11", "daily active users and retention equal what was planted"),
    open("r52", "11", "the dashboard's queries return data, and its alerts fire and resolve"),
    open("r53", "11", "scaling with the load, rolling deployment without a failed request, roll-back of a bad build"),
    open("r54", "deploy", "manifests for the same ladder pass their validators"),
    tested("r55", "12", "a larger database server carries more, up to a ceiling", &[
        "r55_servers_grow_up_to_the_biggest_and_figures_that_do_not_grow_are_told",
    ]),
    tested("r56", "12", "shards carry more writes, and a new one takes its share of keys live", &[
        "r56_a_fifth_shard_joins_while_users_are_written_and_no_write_is_lost_or_doubled",
        "r56_an_old_map_is_refused_until_the_new_one_is_there_and_unchecked_it_finds_nobody",
        "r56_a_slot_that_comes_back_is_served_where_it_was",
        "r56_a_hot_key_is_named_and_money_does_not_travel_between_shards",
    ]),
    open("r57", "13", "the seven points, each with its figure and the rows behind it"),
];

const fn open(id: &'static str, place: &'static str, statement: &'static str) -> Row {
    Row { id, statement, place, status: Status::Open, tests: &[] }
}

const fn tested(id: &'static str, place: &'static str, statement: &'static str, tests: &'static [&'static str]) -> Row {
    Row { id, statement, place, status: Status::Tested, tests }
}
