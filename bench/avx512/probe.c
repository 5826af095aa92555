/* Asks the emulated processor for each form of the AVX-512 BF16 instructions and compares with plain C, to the bit.
   Prints a line for each form and exits with 1 if any was wrong: then the emulator, not Temper, is at fault. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t a[16], b[64];
static float from[16], sums[16], high[16], low[32];
static uint16_t halves[32];
static int failed;

static float widened(uint32_t bf16) {
    uint32_t bits = bf16 << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint16_t rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static float number(void) {
    static uint32_t state = 1;
    state = state * 1664525 + 1013904223;
    return (int32_t)(state >> 8) / (float)(1 << 23) - 1;
}

static void say(const char *form, int wrong, int of) {
    failed |= wrong != 0;
    printf("probe: %-34s %d of %d wrong\n", form, wrong, of);
}

static void dot(const char *form, const uint32_t *right, int step) {
    int wrong = 0;
    for (int i = 0; i < 16; i++) {
        uint32_t pair = right[i * step];
        float sum = fmaf(widened(a[i] >> 16), widened(pair >> 16), from[i]);
        sum = fmaf(widened(a[i] & 0xffff), widened(pair & 0xffff), sum);
        wrong += memcmp(&sum, &sums[i], 4) != 0;
    }
    say(form, wrong, 16);
}

#define DOT(form, operand, right, step)                                                              \
    __asm__ volatile("vmovups %1, %%zmm0\nvmovups %2, %%zmm1\nvmovups (%3), %%zmm2\n"                \
                     "vdpbf16ps " operand ", %%zmm1, %%zmm0\nvmovups %%zmm0, %0"                     \
                     : "=m"(sums) : "m"(from), "m"(a), "r"(b), "m"(b) : "xmm0", "xmm1", "xmm2");     \
    dot(form, right, step);

static void round_check(const char *form, const float *first, int count) {
    int wrong = 0;
    for (int i = 0; i < count; i++) wrong += halves[i] != rounded(i < 16 ? first[i] : high[i - 16]);
    say(form, wrong, count);
}

#define ROUND(form, instruction, first, count)                                                       \
    __asm__ volatile("vmovups %1, %%zmm1\nvmovups (%2), %%zmm2\n" instruction                        \
                     "\nvmovups %%zmm0, %0"                                                          \
                     : "=m"(halves) : "m"(high), "r"(low), "m"(low) : "xmm0", "xmm1", "xmm2");       \
    round_check(form, first, count);

int main(void) {
    for (int i = 0; i < 16; i++) {
        a[i] = rounded(number()) | (uint32_t)rounded(number()) << 16;
        from[i] = number();
        high[i] = number();
    }
    for (int i = 0; i < 64; i++) b[i] = rounded(number()) | (uint32_t)rounded(number()) << 16;
    for (int i = 0; i < 32; i++) low[i] = number();
    DOT("vdpbf16ps register", "%%zmm2", b, 1)
    DOT("vdpbf16ps memory", "(%3)", b, 1)
    DOT("vdpbf16ps memory + 64", "64(%3)", b + 16, 1)
    DOT("vdpbf16ps memory + 4", "4(%3)", b + 1, 1)
    DOT("vdpbf16ps broadcast", "(%3)%{1to16%}", b, 0)
    DOT("vdpbf16ps broadcast + 4", "4(%3)%{1to16%}", b + 1, 0)
    ROUND("vcvtne2ps2bf16 register", "vcvtne2ps2bf16 %%zmm2, %%zmm1, %%zmm0", low, 32)
    ROUND("vcvtne2ps2bf16 memory + 64", "vcvtne2ps2bf16 64(%2), %%zmm1, %%zmm0", low + 16, 32)
    ROUND("vcvtneps2bf16 register", "vcvtneps2bf16 %%zmm2, %%ymm0", low, 16)
    ROUND("vcvtneps2bf16 memory + 64", "vcvtneps2bf16 64(%2), %%ymm0", low + 16, 16)
    puts(failed ? "probe: the emulator is wrong" : "probe: every form is right");
    return failed;
}
