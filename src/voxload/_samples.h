/* 16-bit samples, and the base64 in which they come: the same answers as audioop's and strict base64's, to the bit. */
#ifndef VOXLOAD_SAMPLES_H
#define VOXLOAD_SAMPLES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

/* As audioop.rms: 64-bit sums of squares are exact, and so are those that it keeps in a double. */
static long long rms(const int16_t *samples, Py_ssize_t count) {
    int64_t sum = 0;
    for (Py_ssize_t at = 0; at < count; at++) sum += (int32_t)samples[at] * samples[at];
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

static void fill_places(void) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++) {
        for (int at = 0; at < 256; at++) places[place][at] = BAD;
        for (uint32_t at = 0; at < 64; at++) places[place][(unsigned char)alphabet[at]] = at << (18 - 6 * place);
    }
}

/* Decode up to the quote that ends the text; returns the quote's place, NULL when the text is not plain base64. */
static const unsigned char *decode_base64(const unsigned char *at, const unsigned char *end, unsigned char *out,
                                          Py_ssize_t *count) {
    const unsigned char *begun = out;
    uint32_t bits = 0;
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
