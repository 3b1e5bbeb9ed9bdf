/* Asks the kernel what the CPU has: it reads registers that programs may not, and on a machine of
 * unlike cores it says what all of them have. */
#include <sys/auxv.h>

#include "kernels/levels.h"

/* Of <asm/hwcap.h>, where the older ones lack them. */
#define HAS_ASIMD (1ul << 1)
#define HAS_ASIMDDP (1ul << 20)
#define HAS2_I8MM (1ul << 13)

unsigned moult_cpu_flags(void) {
    unsigned long has = getauxval(AT_HWCAP), has2 = getauxval(AT_HWCAP2);

    return (has & HAS_ASIMD ? MOULT_CPU_NEON : 0u) | (has & HAS_ASIMDDP ? MOULT_CPU_DOT : 0u) |
           (has2 & HAS2_I8MM ? MOULT_CPU_I8MM : 0u);
}
