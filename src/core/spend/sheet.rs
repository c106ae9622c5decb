//! The money of one diagnosis: what it has of the book, what its attempts hold of that, and what they cost. Its own
//! process knows it alone, so nothing of it is written before the diagnosis ends.

use std::collections::BTreeMap;

use crate::core::money::NanoDollars;

/// Money of one diagnosis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// Reservations of the book that are this sheet's.
    grants: Vec<String>,
    granted: NanoDollars,
    held: NanoDollars,
    cost: NanoDollars,
    upstreams: BTreeMap<String, NanoDollars>,
}

impl Sheet {
    /// Adds a reservation of the book.
    pub fn grant(&mut self, id: String, amount: NanoDollars) {
        self.grants.push(id);
        self.granted = self.granted + amount;
    }

    /// Holds the most that an attempt can cost; otherwise tells how much is missing.
    pub fn hold(&mut self, amount: NanoDollars) -> Result<(), NanoDollars> {
        let taken = self.held + self.cost + amount;
        if taken > self.granted {
            return Err(taken - self.granted);
        }
        self.held = self.held + amount;
        Ok(())
    }

    /// Ends a hold at what the attempt cost. Returns what is beyond all that the sheet has: it must be recorded in the
    /// book, as a reservation, before anything else is held.
    #[must_use = "what was billed beyond the reservation must be recorded"]
    pub fn settle(&mut self, held: NanoDollars, cost: NanoDollars, upstream: &str) -> NanoDollars {
        self.held = self.held - held;
        self.cost = self.cost + cost;
        if cost > NanoDollars(0) {
            let sum = self.upstreams.entry(upstream.to_owned()).or_default();
            *sum = *sum + cost;
        }
        (self.held + self.cost) - self.granted
    }

    /// What all attempts that ended cost so far.
    pub fn cost(&self) -> NanoDollars {
        self.cost
    }

    /// What can be held without asking the book.
    pub fn free(&self) -> NanoDollars {
        self.granted - (self.held + self.cost)
    }

    /// Ends the sheet: the reservations, what they cost together, and on whom it was spent. What is still held counts as
    /// spent.
    pub fn end(self) -> (Vec<String>, NanoDollars, BTreeMap<String, NanoDollars>) {
        let Sheet { grants, granted: _, held, cost, upstreams } = self;
        (grants, cost + held, upstreams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn nano(amount: u64) -> NanoDollars {
        NanoDollars(amount)
    }

    fn granted(amount: u64) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.grant("a".into(), nano(amount));
        sheet
    }

    #[test]
    fn attempts_hold_no_more_than_was_granted() {
        let mut sheet = granted(100);
        assert_eq!(sheet.hold(nano(60)), Ok(()));
        assert_eq!(sheet.hold(nano(60)), Err(nano(20)), "20 are missing");
        assert_eq!(sheet.settle(nano(60), nano(10), "a"), nano(0));
        assert_eq!(sheet.hold(nano(60)), Ok(()));
        assert_eq!(sheet.free(), nano(30));
    }

    #[test]
    fn what_costs_nothing_needs_no_grant() {
        assert_eq!(Sheet::default().hold(nano(0)), Ok(()));
    }

    #[test]
    fn what_is_billed_beyond_the_hold_is_taken_from_what_is_free_and_the_rest_is_told() {
        let mut sheet = granted(100);
        sheet.hold(nano(60)).unwrap();
        assert_eq!(sheet.settle(nano(60), nano(90), "a"), nano(0), "40 were free");
        sheet.hold(nano(10)).unwrap();
        assert_eq!(sheet.settle(nano(10), nano(15), "a"), nano(5));
        assert_eq!(sheet.hold(nano(1)), Err(nano(6)), "nothing more before it is recorded");
        sheet.grant("b".into(), nano(5));
        assert_eq!(sheet.end(), (vec!["a".into(), "b".into()], nano(105), BTreeMap::from([("a".into(), nano(105))])));
    }

    #[test]
    fn what_is_held_at_the_end_counts_as_spent() {
        let mut sheet = granted(100);
        sheet.hold(nano(60)).unwrap();
        assert_eq!(sheet.end(), (vec!["a".into()], nano(60), BTreeMap::new()));
    }
}
