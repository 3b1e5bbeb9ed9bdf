/* The AVX-VNNI level in the encoding of AVX-512 VNNI: the same instructions on the same registers,
 * for CPUs that have the one and not the other. */
#define VNNI_ENCODING "%{evex%} "
#define LEVEL check_avxvnni_evex
#define LEVEL_NAME "avxvnni_evex"
#include "../check.h"

#include "kernels/x86/avxvnni.c"
