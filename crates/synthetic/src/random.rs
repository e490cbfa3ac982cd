//! Numbers that look random and are the same everywhere and for ever: SplitMix64 (Steele, Lea and
//! Flood, 2014). Written here because a cohort must keep its bytes when a random-number crate
//! changes its algorithm, and because ten lines are all there is to it.

/// What a sequence is for. Each has its own, so that a new draw in one leaves the others alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Person = 1,
    Record = 2,
    Behaviour = 3,
}

/// A sequence that depends on seed, index and stream only.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64, index: u64, stream: Stream) -> Self {
        // Mixing between the three keeps neighbouring indexes and streams from overlapping.
        let keyed = mix(mix(seed).wrapping_add(index)).wrapping_add(stream as u64);
        Self { state: mix(keyed) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// From 0 (in) to 1 (out).
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` (in) to `high` (out).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// From `low` to `high`, both in.
    pub(crate) fn whole(&mut self, low: u64, high: u64) -> u64 {
        // The bias of the modulus is below 2^-50 for the small ranges used here.
        low + self.next() % (high - low + 1)
    }

    /// True for this share of draws.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Bell-shaped about `mean`, never farther than 3 × `deviation` from it. The sum of twelve
    /// uniform numbers, because logarithms and cosines may differ between machines in the last bit.
    pub(crate) fn bell(&mut self, mean: f64, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.unit()).sum();
        mean + (sum - 6.0).clamp(-3.0, 3.0) * deviation
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let place = self.next() % from.len() as u64;
        &from[usize::try_from(place).unwrap_or(0)]
    }

    /// One of `from`, by weight.
    pub(crate) fn weighted<'a, T>(&mut self, from: &'a [(T, u32)]) -> &'a T {
        let total: u32 = from.iter().map(|(_, weight)| weight).sum();
        let mut place = self.next() % u64::from(total);
        for (item, weight) in from {
            if place < u64::from(*weight) {
                return item;
            }
            place -= u64::from(*weight);
        }
        &from[from.len() - 1].0
    }

    /// A UUID in the form of version 4 (RFC 9562).
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            (low >> 48) & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
