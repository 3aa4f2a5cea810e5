//! The servers of the group in slots of memory: `hm_slot_server_t`, which mod_lbmethod_heartbeat reads, too.

use std::collections::BTreeMap;

use super::{Node, SEEN_TIMEOUT};
use crate::log::{Level, level, server_event};
use crate::os::clock;
use crate::slotmem::Slots;

/// Room for an address, with the zero byte behind it: `MAXIPSIZE`.
const LONGEST_IP: usize = 46;
/// Where the numbers begin, as C aligns them.
const NUMBERS: usize = 48;
/// How long a slot is: the address, two numbers, when it was heard of, the number of the slot, and what C leaves empty.
pub const SIZE: usize = NUMBERS + 4 + 4 + 8 + 4 + 4;

/// What a slot says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The server's address.
    pub ip: Vec<u8>,
    /// How many of its workers are busy.
    pub busy: i32,
    /// How many wait for work.
    pub ready: i32,
    /// When it was heard of, in seconds since 1970.
    pub seen: i64,
}

impl Entry {
    /// What stands in a slot.
    pub fn of(slot: &[u8]) -> Option<Entry> {
        let (ip, rest) = slot.split_at_checked(NUMBERS)?;
        let (busy, rest) = rest.split_first_chunk()?;
        let (ready, rest) = rest.split_first_chunk()?;
        let (seen, _) = rest.split_first_chunk()?;
        Some(Entry {
            ip: ip.split(|&byte| byte == 0).next().unwrap_or_default().to_vec(),
            busy: i32::from_ne_bytes(*busy),
            ready: i32::from_ne_bytes(*ready),
            // A time of APR is in microseconds.
            seen: i64::from_ne_bytes(*seen) / 1_000_000,
        })
    }

    fn bytes(&self, id: usize) -> Vec<u8> {
        let mut ip = [0; NUMBERS];
        for (to, from) in ip[..LONGEST_IP - 1].iter_mut().zip(&self.ip) {
            *to = *from;
        }
        let seen = self.seen.saturating_mul(1_000_000);
        let numbers = [self.busy.to_ne_bytes(), self.ready.to_ne_bytes()].concat();
        [&ip[..], &numbers, &seen.to_ne_bytes(), &(id as i32).to_ne_bytes()].concat()
    }
}

fn place_of(slots: &Slots, ip: &str) -> Option<usize> {
    let is = |slot: &[u8]| Entry::of(slot).is_some_and(|entry| entry.ip == ip.as_bytes());
    slots.iter().find(|(_, slot)| is(slot)).map(|(id, _)| id)
}

/// `hm_slotmem_update_stat`: a server that is not known takes a free slot; where there is none, it is not kept.
pub(super) fn update(slots: &Slots, ip: &str, node: &Node) {
    let entry = Entry { ip: ip.into(), busy: node.busy, ready: node.ready, seen: node.seen };
    match place_of(slots, ip).map_or_else(|| slots.grab(), Ok) {
        Ok(id) => {
            // Whoever gave the slot back meanwhile will be heard of again.
            let _ = slots.put(id, &entry.bytes(id));
        }
        Err(_) if level::is_asked_for(Level::Debug) => {
            let (count, free) = (slots.num_slots(), slots.num_free_slots());
            let text = format!("slotmem({}) grab failed. Num {count}/num_free {free}", slots.name());
            server_event(Level::Debug, "slotmem_shm", "AH02293", &text);
        }
        Err(_) => {}
    }
}

/// `hm_slotmem_update_stats`: those that are silent go.
pub(super) fn update_all(slots: &Slots, nodes: &BTreeMap<String, Node>) {
    let now = clock::unix_secs();
    for (ip, node) in nodes {
        if now.saturating_sub(node.seen) <= SEEN_TIMEOUT as i64 {
            update(slots, ip, node);
        } else if let Some(id) = place_of(slots, ip) {
            let _ = slots.release(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_change_and_go() {
        let slots = Slots::own("test", SIZE, 1).expect("memory for one server");
        let all = || slots.iter().filter_map(|(_, slot)| Entry::of(&slot)).collect::<Vec<_>>();
        let now = clock::unix_secs();
        let node = |busy, seen| Node { ready: 5, busy, port: 80, seen };
        update(&slots, "10.0.0.1", &node(1, now));
        update(&slots, "10.0.0.1", &node(2, now));
        update(&slots, "10.0.0.2", &node(3, now));
        assert_eq!(all(), [Entry { ip: b"10.0.0.1".to_vec(), busy: 2, ready: 5, seen: now }]);
        let silent = BTreeMap::from([("10.0.0.1".to_owned(), node(2, now - 31))]);
        update_all(&slots, &silent);
        assert_eq!(all(), []);
        assert_eq!(slots.slot_size(), 72);
    }
}
