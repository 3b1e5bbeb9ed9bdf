/* Ctrl-C and SIGTERM of a command that puts down how far it has come before it ends. */
#ifndef MOULT_CLI_INTERRUPT_H
#define MOULT_CLI_INTERRUPT_H

/* From now on the first of them only sets what is returned to the signal's number; the second one
 * ends the process as ever. */
const volatile int *moult_interrupt_watch(void);
/* Ends the process by the signal that came. */
void moult_interrupt_end(void);

#endif
