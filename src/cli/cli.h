/* The commands. Each gets its own name in argv[0] and returns the exit code: 0,
 * 1 for an operating error, 2 for a wrong command line. */
#ifndef MOULT_CLI_CLI_H
#define MOULT_CLI_CLI_H

enum { MOULT_EXIT_OK = 0, MOULT_EXIT_FAILED = 1, MOULT_EXIT_USAGE = 2 };

int moult_cli_serve(int argc, char **argv);
int moult_cli_update(int argc, char **argv);
int moult_cli_cutover(int argc, char **argv);
int moult_cli_rollback(int argc, char **argv);
int moult_cli_status(int argc, char **argv);
int moult_cli_pull(int argc, char **argv);
int moult_cli_manifest(int argc, char **argv);
int moult_cli_import(int argc, char **argv);
int moult_cli_export(int argc, char **argv);
int moult_cli_search(int argc, char **argv);
int moult_cli_rescue(int argc, char **argv);
int moult_cli_embed(int argc, char **argv);
int moult_cli_info(int argc, char **argv);
int moult_cli_bench(int argc, char **argv);

/* Started by `moult serve` and by nobody else. */
int moult_cli_worker(int argc, char **argv);

#endif
