//! Random operations on the state and on the model; and restarts, from events and from checkpoints.

use bytes::Bytes;

use super::super::*;
use super::model::{self, Model};
use super::{Rng, for_each_seed};
use crate::dead_letter::DeadReason;

/// What a log has.
#[derive(Clone, Debug)]
enum Record {
    Message(u64, Entry),
    Event(Bytes),
    Checkpoint(Bytes),
}

struct Run {
    state: State,
    model: Model,
    rng: Rng,
    /// Each with the segment that it lies in.
    log: Vec<(u32, Record)>,
    segment: u32,
    /// Receipts of deliveries, stale or not.
    receipts: Vec<Receipt>,
    groups: Vec<GroupId>,
    names: u64,
    /// Everything about keys, priorities, times: one in so many messages has it.
    plain: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let retention = match rng.below(3) {
            0 => Retention { age_ms: 3_000, bytes: 2_000, messages: 30 },
            1 => Retention { age_ms: 20_000, bytes: u64::MAX, messages: 500 },
            _ => Retention::default(),
        };
        let limits = Limits {
            max_attempts: 1 + rng.below(5) as u32,
            max_groups: 3,
            max_leased: [5, 50, 100_000][rng.below(3) as usize],
            max_keys: [2, 1000][rng.below(2) as usize],
            max_waiting: [3, 1000][rng.below(2) as usize],
            max_dead_letters: 6,
            expired_are_dead: rng.chance(2),
            max_ids: 10,
            ageing: rng.below(4) as u32,
            retention,
            journal: true,
        };
        let plain = [1, 4, 40, 1_000_000][rng.below(4) as usize];
        let (state, model) = (State::new(limits.clone()), Model::new(limits));
        let (log, receipts, groups) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Self { state, model, rng, log, segment: 0, receipts, groups, names: 0, plain };
        run.add_group();
        run.write_events();
        run
    }

    fn now(&self) -> u64 {
        self.model.now
    }

    fn entry(&mut self) -> Entry {
        let (rng, now, plain) = (&mut self.rng, self.model.now, self.plain);
        Entry {
            address: Address { segment: self.segment, offset: self.log.len() as u32 },
            size: rng.below(200) as u32,
            priority: if rng.chance(plain) { rng.below(8) as u8 } else { 0 },
            key: rng.chance(plain).then(|| KeyHash(rng.below(5))),
            sent_ms: now,
            due_ms: if rng.chance(2 * plain) { 1 + (now + rng.below(5_000)).saturating_sub(500) } else { 0 },
            expires_ms: if rng.chance(2 * plain) { 1 + (now + rng.below(9_000)).saturating_sub(500) } else { 0 },
        }
    }

    fn insert(&mut self) {
        let many = self.rng.chance(8);
        for _ in 0..if many { self.rng.below(150) } else { 1 + self.rng.below(4) } {
            let entry = self.entry();
            assert_eq!(self.state.next_sequence().0, self.model.next);
            let sequence = self.state.insert(&entry);
            assert_eq!(sequence.0, self.model.insert(&entry));
            self.log.push((self.segment, Record::Message(sequence.0, entry)));
        }
        if self.rng.below(4) > 0 {
            self.show();
        }
    }

    fn show(&mut self) {
        let end = if self.rng.chance(4) { self.rng.below(self.model.next + 2) } else { self.model.next };
        self.state.show(Sequence(end), self.now());
        self.model.show(end);
    }

    fn some_group(&mut self) -> Option<GroupId> {
        let known: Vec<GroupId> = self.model.groups.iter().flatten().map(|group| group.id).collect();
        (!known.is_empty()).then(|| known[self.rng.below(known.len() as u64) as usize])
    }

    fn take(&mut self) {
        let Some(group) = self.some_group() else { return };
        let (lease, max) =
            (self.rng.below(3_000), self.rng.below(12) as usize * if self.rng.chance(8) { 20 } else { 1 });
        let mut out = Vec::new();
        let taken = self.state.take(group, self.now(), lease, max, &mut out);
        let expected = self.model.take(group, lease, max);
        assert_eq!(taken, expected.as_ref().map(Vec::len).map_err(|&error| error), "take {max} of {group:?}");
        let got: Vec<_> = out.iter().map(|taken| (taken.sequence.0, taken.delivery, taken.attempt)).collect();
        assert_eq!(got, expected.unwrap_or_default(), "take {max} of {group:?}");
        for taken in out {
            let entry = self.model.kept[&taken.sequence.0];
            assert_eq!((taken.address, taken.size), (entry.address, entry.size));
            self.receipts.push(Receipt { group, sequence: taken.sequence, delivery: taken.delivery });
        }
    }

    fn some_receipt(&mut self) -> Option<Receipt> {
        if self.receipts.is_empty() {
            return None;
        }
        let at = self.rng.below(self.receipts.len() as u64) as usize;
        // Some come back to be used twice.
        Some(if self.rng.chance(10) { self.receipts[at] } else { self.receipts.remove(at) })
    }

    fn settle(&mut self) {
        for _ in 0..1 + self.rng.below(8) {
            let Some(receipt) = self.some_receipt() else { return };
            let now = self.now();
            match self.rng.below(12) {
                0 | 1 => {
                    let delay = if self.rng.chance(2) { 0 } else { self.rng.below(4_000) };
                    assert_eq!(self.state.nack(receipt, delay, now), self.model.give_back(receipt, delay, true));
                }
                2 => assert_eq!(self.state.release(receipt, now), self.model.give_back(receipt, 0, false)),
                3 => {
                    let lease = self.rng.below(6_000);
                    assert_eq!(self.state.extend(receipt, lease, now), self.model.extend(receipt, lease));
                    self.receipts.push(receipt);
                }
                4 => {
                    let reason = DeadReason::Rejected("bad".into());
                    let died = self.state.dead_letter(receipt, reason.clone(), now);
                    assert_eq!(died, self.model.dead_letter(receipt, reason));
                }
                _ => {
                    let (checked, acked) = (self.state.check(receipt), self.state.ack(receipt));
                    assert_eq!((checked, acked), (acked, self.model.ack(receipt)), "{receipt:?}");
                }
            }
        }
    }

    fn dead(&mut self) {
        let Some(group) = self.some_group() else { return };
        let dead: Vec<u64> = self.model.group(group).unwrap().dead.keys().copied().collect();
        let sequence = match dead.len() {
            0 => self.rng.below(self.model.next + 1),
            len => dead[self.rng.below(len as u64) as usize],
        };
        if self.rng.chance(3) {
            assert_eq!(self.state.discard(group, Sequence(sequence)).is_ok(), self.model.discard(group, sequence));
        } else {
            assert_eq!(self.state.requeue(group, Sequence(sequence)).is_ok(), self.model.requeue(group, sequence));
        }
    }

    fn start(&mut self) -> (Start, u64) {
        let next = self.model.next;
        match self.rng.below(4) {
            0 => (Start::Oldest, self.model.kept.keys().next().copied().unwrap_or(next)),
            1 => (Start::Latest, next),
            2 => {
                let time = self.rng.below(self.now() + 1);
                (Start::Since(time), self.model.times.find(time).unwrap_or(next))
            }
            _ => {
                let to = self.rng.below(next + 10);
                (Start::At(Sequence(to)), to.min(next))
            }
        }
    }

    fn add_group(&mut self) {
        let (start, floor) = self.start();
        let name = format!("group {}", self.names);
        if self.model.groups.iter().flatten().count() == 3 {
            assert_eq!(self.state.add_group(&name, start), Err(AddGroupError::TooMany));
            return;
        }
        self.names += 1;
        let group = self.state.add_group(&name, start).unwrap();
        assert_eq!(group, self.model.add_group(floor));
        assert_eq!(self.state.add_group(&name, start), Err(AddGroupError::Taken(group)));
        self.groups.push(group);
    }

    fn change_group(&mut self) {
        let Some(group) = self.some_group() else { return self.add_group() };
        match self.rng.below(8) {
            0 => self.add_group(),
            1 => {
                self.state.remove_group(group).unwrap();
                self.model.remove_group(group);
            }
            2 | 3 => {
                let (start, to) = self.start();
                self.state.seek(group, start).unwrap();
                self.model.seek(group, to);
            }
            4 => {
                self.state.purge(group).unwrap();
                self.model.seek(group, self.model.next);
            }
            5 | 6 => {
                let paused = self.rng.chance(4);
                if paused {
                    self.state.pause(group).unwrap()
                } else {
                    self.state.resume(group).unwrap()
                }
                self.model.groups[group.slot()].as_mut().unwrap().paused = paused;
            }
            _ => {
                self.state.forget_retained();
                self.model.trim = self.model.next.max(self.model.trim);
                self.model.sweep();
            }
        }
    }

    fn tick(&mut self) {
        let next = self.state.next_deadline();
        let jump = match self.rng.below(4) {
            0 => next.unwrap_or(0).saturating_sub(self.now()),
            1 => self.rng.below(20_000),
            _ => self.rng.below(500),
        };
        self.model.now += jump;
        let mut effects = Vec::new();
        self.state.tick(self.now(), &mut effects);
        let expected = self.model.tick();
        assert_eq!(effects, expected);
        assert!(effects.is_empty() || next.is_some_and(|next| next <= self.now()), "a deadline was missed");
        let next = self.state.next_deadline();
        assert!(next.is_none_or(|next| next > self.now()), "sleeping until {next:?} at {} would not end", self.now());
    }

    fn remember(&mut self) {
        let (id, until) = (u128::from(self.rng.below(30)), self.now() + 1 + self.rng.below(5_000));
        let (now, sequence) = (self.now(), self.model.next);
        self.model.ids.retain(|&(_, _, until)| until > now);
        let known = self.model.ids.iter().find(|known| known.0 == id).map(|known| Sequence(known.1));
        let found = self.state.remember(id, Sequence(sequence), until, now);
        // The window may have forgotten early, because it is bounded.
        assert!(found == known || found.is_none(), "{found:?} is not {known:?}");
        if found.is_none() {
            self.model.ids.retain(|known| known.0 != id);
            self.model.ids.push((id, sequence, until));
            let mut bytes = Vec::new();
            Event::Remembered { id, sequence, until_ms: until }.encode(&mut bytes);
            self.log.push((self.segment, Record::Event(bytes.into())));
        }
    }

    fn relocate(&mut self) {
        let segment = self.rng.below(u64::from(self.segment) + 1) as u32;
        let max = self.rng.below(20) as usize + 1;
        let mut all: Vec<_> =
            self.model.kept.iter().map(|(&sequence, entry)| (Sequence(sequence), entry.address)).collect();
        all.retain(|(_, address)| address.segment == segment);
        let found = self.state.survivors(segment, Sequence(0), max);
        assert_eq!(found, all.into_iter().take(max).collect::<Vec<_>>(), "survivors of {segment}");
        for (sequence, from) in found {
            let to = Address { segment: self.segment, offset: self.log.len() as u32 };
            assert!(self.state.relocate(sequence, from, to));
            assert!(from == to || !self.state.relocate(sequence, from, to), "it lies elsewhere by now");
            let entry = self.model.kept.get_mut(&sequence.0).unwrap();
            entry.address = to;
            self.log.push((self.segment, Record::Message(sequence.0, *entry)));
        }
    }

    fn write_events(&mut self) {
        let events: Vec<Event> = self.state.drain_events().collect();
        assert!(!self.state.has_events());
        for event in events {
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            let mut rest = Bytes::from(bytes.clone());
            assert_eq!((Event::decode(&mut rest), rest.len()), (Ok(event), 0));
            self.log.push((self.segment, Record::Event(bytes.into())));
        }
    }

    fn checkpoint(&mut self) {
        let mut bytes = Vec::new();
        self.state.export(&mut bytes);
        self.log.push((self.segment, Record::Checkpoint(bytes.into())));
        // Segments may be released that are filled and of which nothing is live.
        let current = self.segment;
        for segment in 0..current {
            if self.state.live(segment).messages == 0 && self.rng.below(3) > 0 {
                self.log.retain(|&(of, _)| of != segment);
            }
        }
    }

    fn recover(&self) -> State {
        let mut recovery = Recovery::new(self.model.limits.clone());
        let mut imported = super::super::recover::Imported::default();
        for (_, record) in &self.log {
            match record {
                Record::Message(sequence, entry) => recovery.restore(Sequence(*sequence), entry).unwrap(),
                Record::Event(bytes) => {
                    let event = Event::decode(&mut bytes.clone()).unwrap();
                    // What speaks of groups that a released segment had is refused.
                    let _ = recovery.apply(&event);
                }
                Record::Checkpoint(bytes) => imported = recovery.import(bytes.clone()).unwrap(),
            }
        }
        assert_eq!(imported.missing, 0, "the last checkpoint speaks of messages that are not there");
        recovery.finish(self.now())
    }

    fn restart(&mut self) {
        let mut recovered = self.recover();
        self.state.show(self.state.next_sequence(), self.now());
        self.model.show(self.model.next);
        let export = |state: &State| {
            let mut state = state.clone();
            state.window = dedup::Window::default();
            (0..state.groups.len()).for_each(|slot| state.rebuild(slot));
            state.bury_exhausted();
            let mut bytes = Vec::new();
            state.export(&mut bytes);
            bytes
        };
        if self.model.limits.retention == Retention::default() {
            assert_eq!(export(&recovered), export(&self.state), "the log leads to the same state");
        }
        for &(id, _, _) in &self.model.ids {
            assert_eq!(recovered.window.find(id, self.now()), self.state.window.find(id, self.now()), "id {id}");
        }
        // Times are samples, of the messages that the log still has.
        self.model.times = recovered.times.clone();
        self.model.restart();
        std::mem::swap(&mut self.state, &mut recovered);
    }

    fn step(&mut self) {
        match self.rng.below(64) {
            0..=15 => self.insert(),
            16..=31 => self.take(),
            32..=47 => self.settle(),
            48..=51 => self.tick(),
            52 | 53 => self.dead(),
            54 => self.change_group(),
            55 => self.show(),
            56 => self.remember(),
            57 => self.relocate(),
            58 | 59 => self.segment += 1,
            60 => self.checkpoint(),
            61 => self.restart(),
            _ => {}
        }
        self.write_events();
        self.compare();
    }

    fn compare(&self) {
        let (state, model) = (&self.state, &self.model);
        state.check_invariants();
        let bytes: u64 = model.kept.values().map(|entry| u64::from(entry.size)).sum();
        assert_eq!((state.len(), state.bytes()), (model.kept.len() as u64, bytes), "kept");
        assert_eq!(state.retained(), model.retained(), "retained");
        for (&sequence, entry) in &model.kept {
            assert_eq!(state.address(Sequence(sequence)), Some((entry.address, entry.size)), "{sequence}");
        }
        for group in model.groups.iter().flatten() {
            group.check(&model.kept);
            let counts = state.counts(group.id).unwrap();
            let got = (counts.ready, counts.delayed, counts.leased, counts.waiting);
            assert_eq!(got, group.counts(model), "ready, delayed, leased, waiting of {:?}", group.id);
            assert_eq!((counts.dead, counts.paused), (group.dead.len() as u64, group.paused));
            let dead: Vec<_> = state.dead_letters(group.id, Sequence(0)).unwrap().collect();
            let dead: Vec<_> =
                dead.into_iter().map(|(id, dead)| (id.0, (dead.reason.clone(), dead.attempts))).collect();
            let expected: Vec<_> = group.dead.iter().map(|(&id, dead)| (id, (dead.0.clone(), dead.1))).collect();
            assert_eq!(dead, expected, "dead letters of {:?}", group.id);
        }
        for &id in self.groups.iter().filter(|&&id| model.group(id).is_none()) {
            assert_eq!(state.counts(id), Err(UnknownGroup));
        }
    }

    fn peek(&mut self) {
        let Some(group) = self.some_group() else { return };
        let (from, max) = (self.rng.below(self.model.next + 1), self.rng.below(20) as usize);
        let peeked = self.state.peek(group, Sequence(from), max).unwrap();
        let model = self.model.group(group).unwrap();
        let pending = model.pending.range(from..).filter(|&&sequence| sequence < self.model.shown).take(max);
        let expected: Vec<_> = pending
            .map(|&sequence| {
                let flight = model.flights.get(&sequence);
                let phase = match flight.map(|flight| (flight.phase, flight.until)) {
                    Some((model::Phase::Leased, until_ms)) => Phase::Leased { until_ms },
                    Some((model::Phase::Delayed, until_ms)) => Phase::Delayed { until_ms },
                    _ if self.model.undue.contains(&sequence) => {
                        Phase::Delayed { until_ms: self.model.kept[&sequence].due_ms }
                    }
                    _ => Phase::Ready,
                };
                (sequence, flight.map_or(0, |flight| flight.attempt), phase)
            })
            .collect();
        let got: Vec<_> = peeked.iter().map(|peeked| (peeked.sequence.0, peeked.attempts, peeked.phase)).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn the_state_does_what_the_naive_one_does() {
    for_each_seed(|seed| {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            run.step();
            run.peek();
        }
        run.drain();
    });
}

impl Run {
    /// Every message can be had in the end, and then nothing is left.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "messages are left that nobody gets");
            for group in self.model.groups.iter().flatten().map(|group| group.id).collect::<Vec<_>>() {
                self.state.resume(group).unwrap();
                self.model.groups[group.slot()].as_mut().unwrap().paused = false;
                self.state.purge_dead(group).unwrap();
                for sequence in self.model.group(group).unwrap().dead.keys().copied().collect::<Vec<_>>() {
                    self.model.discard(group, sequence);
                }
            }
            self.state.show(self.state.next_sequence(), self.now());
            self.model.show(self.model.next);
            self.model.now += 1_000;
            self.state.tick(self.now(), &mut Vec::new());
            self.model.tick();
            self.take();
            for receipt in std::mem::take(&mut self.receipts) {
                assert_eq!(self.state.ack(receipt), self.model.ack(receipt));
            }
            self.write_events();
            if self.model.groups.iter().flatten().all(|group| group.pending.is_empty() && group.dead.is_empty()) {
                break;
            }
        }
        self.compare();
        if self.model.groups.iter().flatten().next().is_some() {
            self.state.forget_retained();
            assert_eq!(
                (self.state.len(), self.state.bytes(), self.state.index.blocks_from(0).count() <= 1),
                (0, 0, true)
            );
        }
    }
}
