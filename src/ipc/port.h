/* The worker's side of the shared memory (channel.h). Its compute threads call
 * these at once; each function says whether it locks. */
#ifndef MOULT_IPC_PORT_H
#define MOULT_IPC_PORT_H

#include "ipc/channel.h"
#include "ipc/message.h"

struct moult_port;

/* The inherited descriptors: request area, answer area, the front's eventfd.
 * Maps, and refuses another version or size. The descriptors become the port's,
 * and are closed when it fails, too. */
struct moult_port *moult_port_open(const int fds[MOULT_CHANNEL_FDS], struct moult_error *error);
void moult_port_close(struct moult_port *port);

struct moult_port_request {
    int slot;
    enum moult_lane lane;
    const void *message;       /* In shared memory, read-only. */
    size_t size;
    char *block;               /* Where the answer goes. */
    size_t capacity;
    uint64_t submitted_ns;
};

/* Takes the next request if there is one; never waits. One caller at a time. */
bool moult_port_take(struct moult_port *port, struct moult_port_request *request);
/* Waits until there may be a request or the front asks for the exit. `seen` is
 * what moult_port_bell() said before the caller looked for work and found none:
 * what came after that look ends the wait at once. Any thread. */
uint32_t moult_port_bell(const struct moult_port *port);
void moult_port_wait(struct moult_port *port, uint32_t seen);
/* How many threads wait, or are about to; and waking so many of them, when work is left over or
 * shared. Any thread. */
uint32_t moult_port_sleepers(const struct moult_port *port);
void moult_port_wake_others(struct moult_port *port, uint32_t threads);
bool moult_port_exit_asked(const struct moult_port *port);

/* Marks the slot as begun (moult_channel_started). Any thread. */
void moult_port_started(struct moult_port *port, int slot);
/* Hands finished slots back, and wakes the front once. Any thread. */
void moult_port_complete(struct moult_port *port, const int *slots, unsigned count);

/* Publishes all of `report`, and wakes the front when its state changed. */
void moult_port_report(struct moult_port *port, const struct moult_worker_report *report);
void moult_port_advance(struct moult_port *port);   /* The sign of life. */

/* How many cells the answer to a request has, and how many bytes cell `index` of it may need at
 * most: they lie end to end from moult_answer_cells_begin() on, and all that may need
 * moult_answer_room(). C: of the vectors. */
uint32_t moult_answer_cells_of(const struct moult_request_view *request);
size_t moult_answer_cell_room(const struct moult_request_view *request, uint32_t index, uint32_t C);
size_t moult_answer_room(const struct moult_request_view *request, uint32_t C);
/* Rows that an answer to FOLLOW may name beyond those of its own changes. */
#define MOULT_UNREAD_MORE 64

/* Writes an answer into a request's block. `cells` point at offsets that the
 * worker fills; the header is written last. */
struct moult_answer_cell *moult_answer_cells(char *block, size_t capacity, uint32_t count);
/* Where the bytes of cells may begin, behind the header and table of `count`. */
size_t moult_answer_cells_begin(uint32_t count);
void moult_answer_write(char *block, size_t capacity, enum moult_answer_status status,
                        uint32_t count, const struct moult_answer_times *times,
                        const char *message, uint32_t message_text);

/* The bytes that one cell of an EMBED may need, and the writing of one: returns its size. */
size_t moult_cell_bytes_max(const struct moult_embed_options *options,
                            const struct moult_cell_frame *frame, uint32_t C);
size_t moult_cell_write(char *out, const struct moult_embed_options *options,
                        const struct moult_cell_frame *frame, uint32_t index,
                        const float *vector, uint32_t C);

#endif
