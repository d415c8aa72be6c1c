/* 16-bit samples, and the base64 in which they come: the same answers as audioop's and strict base64's, to the bit. */
#ifndef VOXLOAD_SAMPLES_H
#define VOXLOAD_SAMPLES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#if defined(__SSE2__) && defined(__GNUC__)
#include <tmmintrin.h>
#endif

/* As audioop.rms: 64-bit sums of squares are exact, and so are those that it keeps in a double. */
static long long rms(const int16_t *samples, Py_ssize_t count) {
    int64_t sum = 0;
    Py_ssize_t at = 0;
#if defined(__SSE2__) && defined(__GNUC__)
    __m128i sums = _mm_setzero_si128(), zero = _mm_setzero_si128();
    for (; at + 8 <= count; at += 8) {
        __m128i eight = _mm_loadu_si128((const __m128i *)(samples + at));
        __m128i pairs = _mm_madd_epi16(eight, eight); /* sums of two squares, at most 1 << 31: unsigned */
        sums = _mm_add_epi64(sums, _mm_add_epi64(_mm_unpacklo_epi32(pairs, zero), _mm_unpackhi_epi32(pairs, zero)));
    }
    int64_t halves[2];
    _mm_storeu_si128((__m128i *)halves, sums);
    sum = halves[0] + halves[1];
#endif
    for (; at < count; at++) sum += (int32_t)samples[at] * samples[at];
    return count ? (long long)sqrt((double)sum / (double)count) : 0;
}

/* As audioop.max. */
static long long peak(const int16_t *samples, Py_ssize_t count) {
    int16_t low = 0, high = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        if (samples[at] > high) high = samples[at];
        if (samples[at] < low) low = samples[at];
    }
    return -(long long)low > high ? -(long long)low : high;
}

/* Base64: what each character stands for, at each of its four places; BAD where it stands for nothing. */
enum { BAD = 1 << 24 };
static uint32_t places[4][256];
static int blocks; /* whether this processor decodes many characters at once */

static int has_blocks(void);

static void fill_places(void) {
    blocks = has_blocks();
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++) {
        for (int at = 0; at < 256; at++) places[place][at] = BAD;
        for (uint32_t at = 0; at < 64; at++) places[place][(unsigned char)alphabet[at]] = at << (18 - 6 * place);
    }
}

/* Decode blocks of 16 characters to 12 bytes until one is no base64; returns how many characters that were. It writes four
 * bytes more. The method is Wojciech Mula's: http://0x80.pl/notesen/2016-01-17-sse-base64-decoding.html */
#if defined(__SSE2__) && defined(__GNUC__)
__attribute__((target("ssse3"))) static Py_ssize_t decode_blocks(const unsigned char *text, Py_ssize_t size,
                                                                 unsigned char *out) {
    const __m128i low_table = _mm_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b,
                                            0x1b, 0x1a);
    const __m128i high_table = _mm_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
                                             0x10, 0x10);
    const __m128i shift_table = _mm_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128i order = _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m128i slash = _mm_set1_epi8(0x2f);
    Py_ssize_t at = 0;
    for (; at + 16 <= size; at += 16, out += 12) {
        __m128i block = _mm_loadu_si128((const __m128i *)(text + at));
        __m128i high = _mm_and_si128(_mm_srli_epi32(block, 4), slash), low = _mm_and_si128(block, slash);
        __m128i wrong = _mm_and_si128(_mm_shuffle_epi8(low_table, low), _mm_shuffle_epi8(high_table, high));
        if (_mm_movemask_epi8(_mm_cmpgt_epi8(wrong, _mm_setzero_si128()))) break;
        block = _mm_add_epi8(block, _mm_shuffle_epi8(shift_table, _mm_add_epi8(_mm_cmpeq_epi8(block, slash), high)));
        block = _mm_maddubs_epi16(block, _mm_set1_epi32(0x01400140)); /* six bits and six bits, side by side */
        block = _mm_madd_epi16(block, _mm_set1_epi32(0x00011000));
        _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(block, order));
    }
    return at;
}

static int has_blocks(void) { return __builtin_cpu_supports("ssse3"); }
#else
static Py_ssize_t decode_blocks(const unsigned char *Py_UNUSED(text), Py_ssize_t Py_UNUSED(size),
                                unsigned char *Py_UNUSED(out)) {
    return 0;
}

static int has_blocks(void) { return 0; }
#endif

/* Decode up to the quote that ends the text; returns the quote's place, NULL when the text is not plain base64. `out` has
 * room for four bytes more than the text has characters. */
static const unsigned char *decode_base64(const unsigned char *at, const unsigned char *end, unsigned char *out,
                                          Py_ssize_t *count) {
    const unsigned char *begun = out;
    uint32_t bits = 0;
    Py_ssize_t quick = blocks ? decode_blocks(at, end - at, out) : 0;
    at += quick, out += quick / 16 * 12;
    for (; end - at >= 4; at += 4, out += 3) {
        bits = places[0][at[0]] | places[1][at[1]] | places[2][at[2]] | places[3][at[3]];
        if (bits & BAD) break;
        out[0] = (unsigned char)(bits >> 16), out[1] = (unsigned char)(bits >> 8), out[2] = (unsigned char)bits;
    }
    if (end - at >= 5 && at[3] == '=') { /* the last four hold one or two bytes; bits that belong to none must be zero */
        bits = places[0][at[0]] | places[1][at[1]] | (at[2] == '=' ? 0 : places[2][at[2]]);
        if (bits & (at[2] == '=' ? BAD | 0xFFFF : BAD | 0xFF)) return NULL;
        *out++ = (unsigned char)(bits >> 16);
        if (at[2] != '=') *out++ = (unsigned char)(bits >> 8);
        at += 4;
    }
    *count = out - begun;
    return at < end && *at == '"' ? at : NULL;
}

#endif
