#include "tokenizer/wordpiece.h"

static size_t put_unknown(const struct moult_wordpiece *wordpiece, size_t size, uint32_t *ids,
                          uint32_t *ends) {
    ids[0] = wordpiece->unknown_id;
    if (ends != NULL)
        ends[0] = (uint32_t)size;
    return 1;
}

size_t moult_wordpiece_encode(const struct moult_wordpiece *wordpiece, const char *word,
                              size_t size, size_t characters, uint32_t *ids, uint32_t *ends) {
    uint32_t node = MOULT_TRIE_ROOT;
    size_t count = 0, at = 0;

    if (characters > wordpiece->characters_max)
        return put_unknown(wordpiece, size, ids, ends);
    while (at < size) {
        size_t longest = 0;
        if (node != MOULT_TRIE_NONE)
            longest = moult_trie_longest(&wordpiece->trie, node, word + at, size - at, &ids[count]);
        if (longest == 0)
            return put_unknown(wordpiece, size, ids, ends);
        at += longest;
        if (ends != NULL)
            ends[count] = (uint32_t)at;
        count++;
        node = wordpiece->continuing;
    }
    return count;
}
