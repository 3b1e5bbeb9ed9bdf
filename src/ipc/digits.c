/* How it works. Every real number strictly between the midpoints to the two
 * neighbouring floats reads back as the float. Scaled by a power of ten such
 * that the float has nine digits before the point, that interval is at least
 * 5.9 units wide (half a float's step is 2^-25 of it at least, the step of nine
 * digits 10^-8 at most), so it contains integers; the widest power of ten that
 * has a multiple inside gives the fewest digits, and the multiple nearest to the
 * float is taken.
 *
 * Why it is right although it uses doubles. A float and both midpoints (25 bits)
 * are exact as doubles. 10^k is exact up to 10^22. Scaling takes one rounded
 * operation where |k| ≤ 22 and at most three for the rest, so what comes out is
 * within 3·2^-53 of the truth; the interval's ends are drawn in by 2^-50, more
 * than that. What lies between the drawn-in ends lies between the true ones. The
 * price: where the shortest decimal lies on a midpoint, or nearer than that to
 * one, one digit more is written. No embedding ever meets that. */
#include "ipc/digits.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* x · 10^k */
static double scale(double x, int k) {
    for (; k > 22; k -= 22)
        x *= powers[22];
    for (; k < -22; k += 22)
        x /= powers[22];
    return k >= 0 ? x * powers[k] : x / powers[-k];
}

static double as_double(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* The midpoints between the float of `bits` (positive, finite) and its neighbours. */
static void midpoints(uint32_t bits, double *low, double *high) {
    double value = as_double(bits), below = as_double(bits - 1);
    /* Above the largest float stands what would be the next one: 2^128. */
    double above = bits + 1 < 0x7f800000u ? as_double(bits + 1) : 0x1p128;
    *low = (below + value) / 2;
    *high = (value + above) / 2;
}

/* The decimal exponent of `value`: 10^X ≤ value < 10^(X+1), up to one too low. */
static int decimal_exponent(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    int binary = (int)(bits >> 52) - 1023;
    /* floor(binary · log10(2)); right for |binary| < 1,650. */
    return (binary * 1233) >> 12;
}

/* Of all integers in [low, high] the one that ends in the most zeros; among
 * those the nearest to `middle`. `zeros` is how many were cut off. */
static uint32_t roundest(uint32_t low, uint32_t high, double middle, int *zeros) {
    uint32_t unit = 1;
    *zeros = 0;
    while (unit < 1000000000u && high / (unit * 10) * (unit * 10) >= low && high >= unit * 10) {
        unit *= 10;
        (*zeros)++;
    }
    uint32_t multiple = (uint32_t)(middle / unit + 0.5);
    if (multiple * unit > high)
        multiple--;
    if (multiple * unit < low)
        multiple++;
    return multiple;
}

static unsigned put_digits(char out[10], uint32_t number) {
    char reversed[10];
    unsigned count = 0;
    do {
        reversed[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (unsigned i = 0; i < count; i++)
        out[i] = reversed[count - 1 - i];
    return count;
}

/* `digits`, of which the first stands for 10^X. */
static char *put_plain(char *out, const char *digits, unsigned count, int X) {
    if (X < 0) {
        memcpy(out, "0.0000", 6);
        out += 1 - X;
        memcpy(out, digits, count);
        return out + count;
    }
    unsigned whole = (unsigned)X + 1;
    if (count <= whole) {
        memcpy(out, digits, count);
        memset(out + count, '0', whole - count);
        return out + whole;
    }
    memcpy(out, digits, whole);
    out[whole] = '.';
    memcpy(out + whole + 1, digits + whole, count - whole);
    return out + count + 1;
}

static char *put_scientific(char *out, const char *digits, unsigned count, int X) {
    *out++ = digits[0];
    if (count > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, count - 1);
        out += count - 1;
    }
    *out++ = 'e';
    if (X < 0)
        *out++ = '-';
    unsigned size = X < 0 ? (unsigned)-X : (unsigned)X;
    if (size >= 10)
        *out++ = (char)('0' + size / 10);
    *out++ = (char)('0' + size % 10);
    return out;
}

size_t moult_digits_write(char out[MOULT_DIGITS_BYTES_MAX], float value) {
    const double inward = 0x1p-50;
    char *at = out;
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    bool negative = bits >> 31;
    bits &= 0x7fffffffu;
    if (bits >= 0x7f800000u) {
        memcpy(out, "null", 4);
        return 4;
    }
    if (negative)
        *at++ = '-';
    if (bits == 0) {
        *at++ = '0';
        return (size_t)(at - out);
    }

    double low, high, middle = as_double(bits);
    midpoints(bits, &low, &high);
    int X = decimal_exponent(middle);
    double scaled = scale(middle, 8 - X);
    if (scaled >= 1e9) {
        X++;
        scaled = scale(middle, 8 - X);
    }
    double scaled_low = scale(low, 8 - X), scaled_high = scale(high, 8 - X);
    /* Up and down to the integers inside; the casts cut towards zero. */
    uint32_t least = (uint32_t)(scaled_low * (1 + inward)) + 1;
    uint32_t most = (uint32_t)(scaled_high * (1 - inward));
    int zeros;
    uint32_t number = roundest(least, most, scaled, &zeros);

    char digits[10];
    unsigned count = put_digits(digits, number);
    X += (int)count + zeros - 9;
    if (X >= -4 && X <= 8)
        at = put_plain(at, digits, count, X);
    else
        at = put_scientific(at, digits, count, X);
    return (size_t)(at - out);
}
