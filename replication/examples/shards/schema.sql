-- A table that is sharded: the slot of its key is a column of it, by which it is counted, copied and deleted.
create table counter(key text collate "C" primary key, slot integer not null, number bigint not null);
create index counter_of_slot on counter(slot, key);

-- What this shard knows of each slot that ever moved, as `Holding` is printed.
create table holding(slot integer primary key, held text not null);

-- The keys that were written while their slot is being copied.
create table note(number bigint generated always as identity primary key, slot integer not null, key text not null);
create index note_of_slot on note(slot, number);

-- The fence: whoever writes keeps the slot from changing hands until the transaction ends. The lock is shared by all who
-- write, is there also for a slot without a row, and stands in line, so that a move waits for no more than the writes that
-- have begun. What is held is looked at by a statement of its own, which sees what was committed while the lock was waited for.
create function fenced_holding(which integer) returns text language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(7402, which);
    return (select held from holding where slot = which);
end $$;

-- Its other side: waits for the writes that have begun, and lets none begin before this transaction ends.
create procedure hold(which integer, what text) language plpgsql as $$
begin
    perform pg_advisory_xact_lock(7402, which);
    insert into holding values (which, what) on conflict (slot) do update set held = excluded.held;
end $$;
