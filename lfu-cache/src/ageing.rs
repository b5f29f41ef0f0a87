//! How an LFU order forgets.

/// How [`Lfu::aged`](crate::Lfu::aged) forgets: dynamic ageing with bounded leads.
///
/// The order has an *age*: the count of the entry that last left from the victim's place. A newcomer starts one above
/// the age, so it stands level with what is about to be evicted, not with what the cache saw on its first day. A hit
/// raises the count by [`hit_worth`](Ageing::hit_worth), but never to more than [`max_lead`](Ageing::max_lead) above
/// the age. Nothing is ever decremented: residents sink because the age rises past them, each time that all entries
/// of a count have been evicted.
///
/// With the feature `serde` it may stand in a configuration file, as `hit_worth` and `max_lead`; a field left out has its
/// default, and unknown ones are refused.
///
/// So an entry that is no longer asked for survives at most `max_lead` turnovers of the cache's least frequent part,
/// however popular it once was.
///
/// # Measured
/// Hit ratio in percent, one shard, unit weights; means over 18 public traces (transactions, disk blocks, web, loops,
/// memory addresses; 29 million accesses) at three capacities each, and the worst loss against LRU on any row:
///
/// | order | mean | worst against LRU |
/// |---|--:|--:|
/// | exact LFU | 34.56 | -76.3 |
/// | LRU | 48.50 | |
/// | counts halved at every turnover of the cache | 48.78 | -3.8 |
/// | dynamic ageing, a hit worth 1, no bound | 48.98 | -3.2 |
/// | a hit worth 4, lead at most 16 | 50.16 | -3.2 |
/// | **a hit worth 4, lead at most 8 (the default)** | **50.19** | **-1.7** |
///
/// Some of the rows:
///
/// | trace | capacity | LRU | exact LFU | aged LFU |
/// |---|--:|--:|--:|--:|
/// | product pages of a shop (cache2k `web07`) | 200 | 38.99 | 30.57 | 41.94 |
/// | the same | 4,000 | 60.82 | 60.15 | 62.48 |
/// | recommendation look-ups (Scarab Research) | 2,500 | 34.42 | 30.32 | 38.85 |
/// | transactions (OLTP of the ARC paper) | 1,000 | 32.83 | 13.83 | 38.39 |
/// | objects of a shop's database (cache2k `orm-busy`), the worst row | 800 | 77.44 | 18.08 | 75.71 |
///
/// Halving was not taken although it is the usual way: it is O(1) only amortised (all entries move at once, under
/// the shard's lock), needs a period to be tuned, and came out behind.
///
/// # Examples
/// ```
/// use tenfold_lfu_cache::{Ageing, Lfu};
///
/// let quick_to_forget = Lfu::aged(Ageing::default().max_lead(4));
/// # let _ = quick_to_forget;
/// ```
///
/// # Source
/// M. Arlitt et al., 2000 (LFU with dynamic ageing). Differences: a hit is worth more than one, and the lead is
/// bounded. There is no such bound in the original, where a former favourite stays for as many turnovers as it had
/// hits; there a hit also recomputes the count from the current age, which needs a second number for each entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Written", into = "Written"))]
pub struct Ageing {
    pub(crate) hit_worth: u8,
    pub(crate) max_lead: u32,
}

/// As it stands in a file, where a zero may be written.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    hit_worth: u8,
    max_lead: u32,
}

#[cfg(feature = "serde")]
impl Default for Written {
    fn default() -> Self {
        Ageing::default().into()
    }
}

#[cfg(feature = "serde")]
impl From<Written> for Ageing {
    fn from(written: Written) -> Self {
        Self::default().hit_worth(written.hit_worth).max_lead(written.max_lead)
    }
}

#[cfg(feature = "serde")]
impl From<Ageing> for Written {
    fn from(ageing: Ageing) -> Self {
        Self { hit_worth: ageing.hit_worth, max_lead: ageing.max_lead }
    }
}

impl Default for Ageing {
    fn default() -> Self {
        Self { hit_worth: 4, max_lead: 8 }
    }
}

impl Ageing {
    /// By how much a hit raises the count. Default 4; 0 counts as 1.
    ///
    /// With a smaller worth one hit protects an entry for a shorter time, and recency decides more; with a larger
    /// one frequency does. A hit may step over as many distinct counts as it is worth.
    #[must_use]
    pub const fn hit_worth(self, worth: u8) -> Self {
        Self { hit_worth: if worth == 0 { 1 } else { worth }, ..self }
    }

    /// How far a count may lead the age. Default 8; 0 counts as 1.
    ///
    /// With a smaller lead the cache turns faster to what has become popular: a lead of 1 is exactly LRU. With a
    /// larger one it tells more degrees of popularity apart, and keeps former favourites for longer.
    #[must_use]
    pub const fn max_lead(self, lead: u32) -> Self {
        Self { max_lead: if lead == 0 { 1 } else { lead }, ..self }
    }
}
