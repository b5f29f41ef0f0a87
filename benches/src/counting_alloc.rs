//! A global allocator that counts the bytes in use.
//!
//! It counts what was asked for, not what the system's allocator rounds it up to, so that the figure belongs to the cache and
//! not to the machine. A binary opts in:
//!
//! ```
//! use tenfold_benches::counting_alloc::CountingAlloc;
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAlloc = CountingAlloc::new();
//!
//! let before = ALLOCATOR.bytes_in_use();
//! let block = Box::new([0_u64; 16]);
//! assert_eq!(ALLOCATOR.bytes_in_use() - before, 128);
//! drop(block);
//! ```

#![allow(unsafe_code)] // `GlobalAlloc` is an unsafe trait; nothing else in the crate needs it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator with a count of the bytes that are allocated and not yet freed.
#[derive(Debug, Default)]
pub struct CountingAlloc {
    bytes: AtomicUsize,
}

impl CountingAlloc {
    /// Starts at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: AtomicUsize::new(0) }
    }

    /// The bytes allocated and not yet freed, by all threads.
    #[must_use]
    pub fn bytes_in_use(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to `System`, which upholds the contract; the counter never touches the memory.
unsafe impl GlobalAlloc for CountingAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises a layout of non-zero size, which is all that `System` asks.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            self.grow(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            self.grow(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that this allocator, hence `System`, gave out `block` with this layout.
        unsafe { System.dealloc(block, layout) };
        self.shrink(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `block` came from `System` with this layout, and the caller promises a valid new size.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            self.grow(new_size);
            self.shrink(layout.size());
        }
        moved
    }
}
