#include "tokenizer/wordpiece.h"

size_t moult_wordpiece_encode(const struct moult_wordpiece *wordpiece, const char *word,
                              size_t size, size_t characters, uint32_t *ids) {
    uint32_t node = MOULT_TRIE_ROOT;
    size_t count = 0, at = 0;

    if (characters > wordpiece->characters_max) {
        ids[0] = wordpiece->unknown_id;
        return 1;
    }
    while (at < size) {
        size_t longest = 0;
        if (node != MOULT_TRIE_NONE)
            longest = moult_trie_longest(&wordpiece->trie, node, word + at, size - at, &ids[count]);
        if (longest == 0) {
            ids[0] = wordpiece->unknown_id;
            return 1;
        }
        at += longest;
        count++;
        node = wordpiece->continuing;
    }
    return count;
}
