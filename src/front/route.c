/* From what a client calls a model to the slot and generation it means. */
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "front/slot.h"

#define FINGERPRINT_DIGITS_MIN 8

struct name {
    const char *slot;
    size_t slot_size;
    const char *fingerprint;   /* NULL: none was given. */
    size_t fingerprint_size;
};

static size_t cut_prompt(const char *model, size_t size, enum moult_prompt *prompt) {
    static const struct {
        const char *suffix;
        enum moult_prompt prompt;
    } suffixes[] = {{":query", MOULT_PROMPT_QUERY}, {":document", MOULT_PROMPT_DOCUMENT}};
    *prompt = MOULT_PROMPT_NONE;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t length = strlen(suffixes[i].suffix);
        if (size >= length && memcmp(model + size - length, suffixes[i].suffix, length) == 0) {
            *prompt = suffixes[i].prompt;
            return size - length;
        }
    }
    return size;
}

static struct name parse_name(const char *model, enum moult_prompt *prompt) {
    size_t size = cut_prompt(model, strlen(model), prompt);
    struct name name = {.slot = model, .slot_size = size};
    const char *at = memrchr(model, '@', size);
    if (at != NULL) {
        name.slot_size = (size_t)(at - model);
        name.fingerprint = at + 1;
        name.fingerprint_size = size - name.slot_size - 1;
    }
    return name;
}

static struct moult_slot *find_slot(struct moult_slots *slots, const struct name *name) {
    for (unsigned i = 0; i < slots->count; i++) {
        struct moult_slot *slot = &slots->slots[i];
        if (strlen(slot->name) == name->slot_size &&
            memcmp(slot->name, name->slot, name->slot_size) == 0)
            return slot;
    }
    return NULL;
}

static struct moult_generation *find_generation(struct moult_slot *slot, const struct name *name) {
    if (name->fingerprint_size < FINGERPRINT_DIGITS_MIN ||
        name->fingerprint_size >= MOULT_SHA256_HEX)
        return NULL;
    struct moult_generation *generation;
    for (unsigned i = 0; (generation = moult_slot_generation_at(slot, i)) != NULL; i++)
        if (memcmp(generation->fingerprint, name->fingerprint, name->fingerprint_size) == 0)
            return generation;
    return NULL;
}

/* "a, a@0123abcd, b" for the sentence of an error. */
static void list_what_exists(struct moult_slots *slots, struct moult_buffer *list) {
    for (unsigned i = 0; i < slots->count; i++) {
        struct moult_slot *slot = &slots->slots[i];
        struct moult_generation *generation;
        moult_buffer_format(list, "%s%s", i == 0 ? "" : ", ", slot->name);
        for (unsigned g = 0; (generation = moult_slot_generation_at(slot, g)) != NULL; g++)
            moult_buffer_format(list, ", %s", generation->label);
    }
}

static int fail_missing(struct moult_slots *slots, const char *model, struct moult_error *error) {
    struct moult_buffer list;
    moult_buffer_init(&list, 256);
    list_what_exists(slots, &list);
    moult_fail(error, MOULT_ERROR_MISSING, "There is no model \"%.100s\" here; there is %s%s.",
               model, list.bytes != NULL ? list.bytes : "none", list.overflowed ? ", …" : "");
    moult_buffer_release(&list);
    return -1;
}

int moult_slots_resolve(struct moult_slots *slots, const char *model, struct moult_target *target,
                        struct moult_error *error) {
    *target = (struct moult_target){0};
    struct name name = parse_name(model != NULL ? model : "", &target->prompt);
    bool lenient = slots->count == 1 && !slots->options->strict_models && name.fingerprint == NULL;
    if (name.slot_size == 0 || lenient)
        target->slot = moult_slots_at(slots, 0);
    else
        target->slot = find_slot(slots, &name);
    if (target->slot == NULL)
        return fail_missing(slots, model, error);
    if (name.fingerprint == NULL)
        return 0;
    target->pinned = find_generation(target->slot, &name);
    if (target->pinned == NULL)
        return fail_missing(slots, model, error);
    moult_generation_hold(target->pinned);
    return 0;
}
