/* What an update took: times, bytes, memory, and the latency that it added. */
#include "front/update_run.h"

#include "base/machine.h"

/* Queued, or waiting for a person, it costs those who are served nothing. */
static bool costs_something(const struct moult_update *update) {
    return update->phase != MOULT_PHASE_QUEUED && update->phase != MOULT_PHASE_READY;
}

static bool runs(const struct moult_update *update) {
    return update->updates->running[moult_updates_index(update->slot)] == update;
}

void moult_update_measure_phase(struct moult_update *update, enum moult_update_phase from,
                                double seconds) {
    struct moult_latency *latency = &update->slot->latency;
    update->figures.phase_seconds[from] += seconds;
    if (!runs(update))
        return;   /* It reads its place while another one waits. */
    if (!update->measured)
        moult_latency_begin(latency);
    update->measured = true;
    moult_latency_during(latency, costs_something(update));
}

/* When it has loaded and checked itself, its worker has needed the most. */
void moult_update_measure_memory(struct moult_update *update) {
    const struct moult_generation *candidate = update->candidate;
    const struct moult_generation *current = update->slot->current;
    struct moult_update_figures *figures = &update->figures;
    if (candidate->process == NULL)
        return;
    uint64_t bytes = moult_machine_peak_bytes(moult_process_pid(candidate->process));
    if (bytes <= figures->candidate_bytes)
        return;
    figures->candidate_bytes = figures->both_bytes = bytes;
    if (current != NULL && current != candidate && current->process != NULL)
        figures->both_bytes += moult_machine_resident_bytes(moult_process_pid(current->process));
}

void moult_update_measure_end(struct moult_update *update, bool was_nothing) {
    struct moult_latency *latency = &update->slot->latency;
    struct moult_update_figures *figures = &update->figures;
    uint64_t now_ns = moult_clock_ns();
    figures->phase_seconds[update->phase] += (double)(now_ns - update->phase_began_ns) / 1e9;
    figures->seconds = (double)(now_ns - update->began_ns) / 1e9;
    if (!update->measured)
        return;
    if (was_nothing) {
        moult_latency_undo(latency);
        return;
    }
    moult_latency_during(latency, false);
    figures->p99_before_ms = moult_latency_p99_before_ms(latency);
    figures->p99_during_ms = moult_latency_p99_during_ms(latency);
}
