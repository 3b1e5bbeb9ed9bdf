/* Reports of what an update changes, as the server's JSON has them, for people. */
#ifndef MOULT_CLI_REPORT_H
#define MOULT_CLI_REPORT_H

#include <jansson.h>

/* One sentence on standard output, behind `indent`; nothing where `report` is NULL. */
void moult_report_print_summary(const json_t *report, const char *indent);
/* All of its figures. */
void moult_report_print(const json_t *report);

#endif
