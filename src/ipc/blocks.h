/* Who has which bytes of a shared area: an allocator whose book lies outside of
 * the memory that it gives away, so that nobody who writes there can spoil it.
 *
 * Free extents are kept in order of address. Small blocks come from the lowest
 * hole that fits, so a quiet server touches the same few pages again and again;
 * large ones come from the highest, whole pages, and are given back to the
 * system by the caller when freed. There are never more blocks than slots, so
 * the book has a fixed size and its walks are short. */
#ifndef MOULT_IPC_BLOCKS_H
#define MOULT_IPC_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/channel.h"

#define MOULT_BLOCK_LARGE_BYTES (1ul << 20)

struct moult_extent {
    uint64_t offset, size;
};

struct moult_blocks {
    uint64_t begin, end;
    uint64_t taken;      /* Bytes, rounded up. */
    uint64_t touched;    /* The highest end of a small block since it was last set to `begin`. */
    uint32_t count;      /* Free extents. */
    struct moult_extent free[MOULT_CHANNEL_SLOTS + 1];
};

/* The bytes [begin, end), both multiples of a page. */
void moult_blocks_init(struct moult_blocks *blocks, uint64_t begin, uint64_t end);
/* At most MOULT_CHANNEL_SLOTS blocks at a time. False where no hole is large enough. */
bool moult_blocks_take(struct moult_blocks *blocks, uint64_t size, uint64_t *offset);
/* `size` as it was asked for. */
void moult_blocks_give(struct moult_blocks *blocks, uint64_t offset, uint64_t size);
/* Whether so many bytes could be taken if nothing else were. */
bool moult_blocks_fits(const struct moult_blocks *blocks, uint64_t size);
/* The bytes that a block of `size` really has. */
uint64_t moult_blocks_rounded(uint64_t size);

#endif
