//! Asking for the weights that are multiplied next.

use crate::simd::{AHEAD, fetch_line, fetch_line_later};

/// Tiles that one column meets together: each is memory of its own, and several streams are fetched
/// faster than one.
pub(super) const STREAMS: usize = 4;

/// Bytes that memory is fetched by.
pub(super) const LINE: usize = 64;

/// Asks for the memory of `N` tiles, a little of each at a time: more at once would wait for a free
/// buffer, and the products with it. At the end of the tiles it goes on with those behind
/// them, which are mostly multiplied next: they would begin with nothing on its way, and tiles are
/// short (18 KB for 2,048 weights a row of 4 bits).
pub(super) struct Ahead<const N: usize> {
    /// Where the next line of the first tile is; those of the others are `tile_bytes` apart.
    next: *const u8,
    tile_bytes: usize,
    /// Bytes from `next` to the end of its tile.
    left: usize,
    /// Bytes of each tile to ask for.
    due: usize,
}

impl<const N: usize> Ahead<N> {
    /// For tiles that lie one after the other.
    #[inline(always)]
    pub(super) fn new(tiles: &[u8], tile_bytes: usize) -> Self {
        let mut ahead = Self {
            next: tiles.as_ptr(),
            tile_bytes,
            left: tile_bytes,
            due: 0,
        };
        ahead.advance(AHEAD);
        ahead
    }

    /// Asks for what is to be multiplied once `bytes` more of each tile have been.
    #[inline(always)]
    pub(super) fn ask(&mut self, bytes: usize) {
        self.due += bytes;
        while self.due >= LINE {
            for stream in 0..N {
                fetch_line(self.next.wrapping_add(stream * self.tile_bytes));
            }
            self.advance(LINE);
            self.due -= LINE;
        }
    }

    #[inline(always)]
    fn advance(&mut self, bytes: usize) {
        self.next = self.next.wrapping_add(bytes);
        while self.left < bytes {
            // Past the other tiles, to those behind them.
            self.next = self.next.wrapping_add((N - 1) * self.tile_bytes);
            self.left += self.tile_bytes;
        }
        self.left -= bytes;
    }
}

/// The same for tiles that are unpacked block by block, all columns going by between two blocks: a block
/// further than the next is asked for meanwhile. It comes into the second-level cache, as the
/// columns would drive it from the first.
pub(super) struct LaterBlock<const N: usize> {
    /// As of [`Ahead`].
    next: *const u8,
    tile_bytes: usize,
    /// Lines of each tile not asked for yet.
    lines: usize,
}

impl<const N: usize> LaterBlock<N> {
    /// While bytes `start .. start + len` of `tiles` are multiplied, which lie one after the other.
    #[inline(always)]
    pub(super) fn new(tiles: &[u8], tile_bytes: usize, start: usize, len: usize) -> Self {
        let later = start + 2 * len;
        let (band, offset) = (later / tile_bytes, later % tile_bytes);
        Self {
            next: tiles.as_ptr().wrapping_add(band * N * tile_bytes + offset),
            tile_bytes,
            lines: len.div_ceil(LINE),
        }
    }

    /// Asks for `lines` of each tile, or what is left of the block.
    #[inline(always)]
    pub(super) fn ask(&mut self, lines: usize) {
        let lines = lines.min(self.lines);
        self.lines -= lines;
        for _ in 0..lines {
            for stream in 0..N {
                fetch_line_later(self.next.wrapping_add(stream * self.tile_bytes));
            }
            self.next = self.next.wrapping_add(LINE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_behind_the_tiles() {
        for tile_bytes in [288, 2304, 4096, 18 << 10] {
            let tiles = vec![0; STREAMS * tile_bytes];
            let mut ahead = Ahead::<STREAMS>::new(&tiles, tile_bytes);
            for done in (AHEAD..3 * AHEAD + 20_000).step_by(LINE) {
                let band = done / tile_bytes;
                let expected = band * STREAMS * tile_bytes + done % tile_bytes;
                let offset = ahead.next.addr() - tiles.as_ptr().addr();
                // At the end of a tile, and at the beginning behind it, alike.
                assert!(
                    offset == expected || done % tile_bytes == 0,
                    "{tile_bytes} {done}: {offset} is not {expected}"
                );
                ahead.ask(LINE);
            }
        }
    }

    #[test]
    fn the_block_behind_the_last_is_the_next_bands() {
        let (tile_bytes, block) = (5 * LINE, 2 * LINE);
        let tiles = vec![0; 2 * tile_bytes];
        let at = |start| {
            let later = LaterBlock::<2>::new(&tiles, tile_bytes, start, block);
            later.next.addr() - tiles.as_ptr().addr()
        };
        assert_eq!(at(0), 4 * LINE);
        assert_eq!(at(2 * LINE), 2 * tile_bytes + LINE);
        assert_eq!(at(4 * LINE), 2 * tile_bytes + 3 * LINE);
        let mut later = LaterBlock::<2>::new(&tiles, tile_bytes, 0, block);
        later.ask(1);
        later.ask(7);
        assert_eq!(later.lines, 0);
        assert_eq!(later.next.addr() - tiles.as_ptr().addr(), 6 * LINE);
    }
}
