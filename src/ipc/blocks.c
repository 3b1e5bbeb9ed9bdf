#include "ipc/blocks.h"

#include <string.h>

#include "ipc/layout.h"

static bool is_large(uint64_t size) {
    return size >= MOULT_BLOCK_LARGE_BYTES;
}

uint64_t moult_blocks_rounded(uint64_t size) {
    uint64_t unit = is_large(size) ? MOULT_PAGE_BYTES : MOULT_BLOCK_ALIGN;
    if (size > UINT64_MAX - unit)
        return UINT64_MAX;
    return size == 0 ? unit : (size + unit - 1) / unit * unit;
}

void moult_blocks_init(struct moult_blocks *blocks, uint64_t begin, uint64_t end) {
    MOULT_REQUIRE(begin < end && begin % MOULT_PAGE_BYTES == 0 && end % MOULT_PAGE_BYTES == 0);
    blocks->begin = begin;
    blocks->end = end;
    blocks->taken = 0;
    blocks->touched = begin;
    blocks->count = 1;
    blocks->free[0] = (struct moult_extent){.offset = begin, .size = end - begin};
}

bool moult_blocks_fits(const struct moult_blocks *blocks, uint64_t size) {
    return moult_blocks_rounded(size) <= blocks->end - blocks->begin;
}

static void remove_extent(struct moult_blocks *blocks, uint32_t at) {
    memmove(&blocks->free[at], &blocks->free[at + 1],
            (blocks->count - at - 1) * sizeof(blocks->free[0]));
    blocks->count--;
}

static void insert_extent(struct moult_blocks *blocks, uint32_t at, struct moult_extent extent) {
    MOULT_REQUIRE(blocks->count < MOULT_CHANNEL_SLOTS + 1);
    memmove(&blocks->free[at + 1], &blocks->free[at],
            (blocks->count - at) * sizeof(blocks->free[0]));
    blocks->free[at] = extent;
    blocks->count++;
}

/* The start of the highest whole pages of `extent`, or 0 where they are too few:
 * small neighbours leave ends that are no page's. Offset 0 is a head's, never a block's. */
static uint64_t highest_pages(const struct moult_extent *extent, uint64_t size) {
    if (extent->size < size)
        return 0;
    uint64_t offset = (extent->offset + extent->size - size) / MOULT_PAGE_BYTES * MOULT_PAGE_BYTES;
    return offset >= extent->offset ? offset : 0;
}

static bool take_large(struct moult_blocks *blocks, uint64_t size, uint64_t *offset) {
    for (uint32_t i = blocks->count; i-- > 0;) {
        struct moult_extent *extent = &blocks->free[i];
        uint64_t at = highest_pages(extent, size);
        if (at == 0)
            continue;
        uint64_t extent_end = extent->offset + extent->size;
        struct moult_extent behind = {.offset = at + size, .size = extent_end - (at + size)};
        extent->size = at - extent->offset;
        if (behind.size > 0)
            insert_extent(blocks, i + 1, behind);
        if (blocks->free[i].size == 0)
            remove_extent(blocks, i);
        *offset = at;
        return true;
    }
    return false;
}

static bool take_small(struct moult_blocks *blocks, uint64_t size, uint64_t *offset) {
    for (uint32_t i = 0; i < blocks->count; i++) {
        struct moult_extent *extent = &blocks->free[i];
        if (extent->size < size)
            continue;
        *offset = extent->offset;
        extent->offset += size;
        extent->size -= size;
        if (extent->size == 0)
            remove_extent(blocks, i);
        if (*offset + size > blocks->touched)
            blocks->touched = *offset + size;
        return true;
    }
    return false;
}

bool moult_blocks_take(struct moult_blocks *blocks, uint64_t size, uint64_t *offset) {
    uint64_t rounded = moult_blocks_rounded(size);
    bool taken = is_large(size) ? take_large(blocks, rounded, offset)
                                : take_small(blocks, rounded, offset);
    if (taken)
        blocks->taken += rounded;
    return taken;
}

/* The first free extent behind `offset`. */
static uint32_t extent_behind(const struct moult_blocks *blocks, uint64_t offset) {
    uint32_t low = 0, high = blocks->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (blocks->free[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void moult_blocks_give(struct moult_blocks *blocks, uint64_t offset, uint64_t size) {
    uint64_t rounded = moult_blocks_rounded(size), end = offset + rounded;
    uint32_t at = extent_behind(blocks, offset);
    struct moult_extent *before = at > 0 ? &blocks->free[at - 1] : NULL;
    struct moult_extent *behind = at < blocks->count ? &blocks->free[at] : NULL;

    MOULT_REQUIRE(offset >= blocks->begin && end <= blocks->end && rounded <= blocks->taken);
    MOULT_REQUIRE(!before || before->offset + before->size <= offset);
    MOULT_REQUIRE(!behind || end <= behind->offset);
    blocks->taken -= rounded;

    bool joins_before = before && before->offset + before->size == offset;
    bool joins_behind = behind && behind->offset == end;
    if (joins_before && joins_behind) {
        before->size += rounded + behind->size;
        remove_extent(blocks, at);
    } else if (joins_before) {
        before->size += rounded;
    } else if (joins_behind) {
        behind->offset = offset;
        behind->size += rounded;
    } else {
        insert_extent(blocks, at, (struct moult_extent){.offset = offset, .size = rounded});
    }
}
