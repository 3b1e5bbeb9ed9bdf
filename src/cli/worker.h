/* `moult worker`: hidden, for the front alone. Returns the exit code. */
#ifndef MOULT_CLI_WORKER_H
#define MOULT_CLI_WORKER_H

int moult_cli_worker(int argc, char **argv);

#endif
