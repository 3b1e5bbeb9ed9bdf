/* Asks the CPU what it has, and the operating system whether it saves the registers
 * (XGETBV): a CPU may know AVX-512 under a kernel or an emulator that does not. */
#include <cpuid.h>

#include "kernels/levels.h"

#define LEAF1_ECX_FMA (1u << 12)
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_ECX_AVX (1u << 28)
#define LEAF7_EBX_AVX2 (1u << 5)
#define LEAF7_EBX_AVX512F (1u << 16)
#define LEAF7_EBX_AVX512DQ (1u << 17)
#define LEAF7_EBX_AVX512BW (1u << 30)
#define LEAF7_EBX_AVX512VL (1u << 31)
#define LEAF7_ECX_AVX512_VNNI (1u << 11)
#define LEAF7_1_EAX_AVX_VNNI (1u << 4)
#define XCR0_XMM_YMM 0x06u
#define XCR0_OPMASK_ZMM 0xe0u

/* Not the intrinsic: that wants this file to be compiled with -mxsave. */
static uint32_t saved_registers(void) {
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static unsigned has(uint32_t value, uint32_t bits) {
    return (value & bits) == bits;
}

/* Asked for where leaf 7 has that subleaf: its number of them is in EAX of the first. */
static unsigned avx_vnni(uint32_t subleaves) {
    uint32_t eax = 0, ebx, ecx, edx;

    if (subleaves < 1 || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
        return 0;
    return has(eax, LEAF7_1_EAX_AVX_VNNI) ? MOULT_CPU_AVX_VNNI : 0;
}

unsigned moult_cpu_flags(void) {
    uint32_t eax, ebx, ecx, edx, saved, flags;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    if (!has(ecx, LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_FMA))
        return 0;
    saved = saved_registers();
    if (!has(saved, XCR0_XMM_YMM) || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return 0;
    if (!has(ebx, LEAF7_EBX_AVX2))
        return 0;
    flags = MOULT_CPU_AVX2 | avx_vnni(eax);
    if (has(saved, XCR0_OPMASK_ZMM) && has(ebx, LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ |
                                                    LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL))
        flags |= MOULT_CPU_AVX512 | (has(ecx, LEAF7_ECX_AVX512_VNNI) ? MOULT_CPU_AVX512_VNNI : 0);
    return flags;
}
