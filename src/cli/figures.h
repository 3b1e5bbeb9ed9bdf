/* Numbers as people read them. */
#ifndef MOULT_CLI_FIGURES_H
#define MOULT_CLI_FIGURES_H

#include <stdint.h>

#define MOULT_FIGURE_BYTES 40

/* "1,234,567" */
const char *moult_figure_count(char text[MOULT_FIGURE_BYTES], uint64_t count);
/* "12,345 documents" and "1 document" */
const char *moult_figure_documents(char text[MOULT_FIGURE_BYTES], uint64_t count);
/* "0.4 s", "48 s", "3 min 20 s", "2 h 5 min" */
const char *moult_figure_seconds(char text[MOULT_FIGURE_BYTES], double seconds);

#endif
