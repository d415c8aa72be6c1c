/* A client's WebSocket frame: masks a message where it stands and writes the header before it (RFC 6455, 5.2 and 5.3). */
#ifndef VOXLOAD_FRAME_H
#define VOXLOAD_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FRAME_HEAD_MAX = 16, FRAME_ROOM = FRAME_HEAD_MAX + 8 }; /* the message begins at a multiple of 8 */
enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, FIN = 0x80, MASKED = 0x80, KEY_SIZE = 4 };

/* Return where the frame begins, in the FRAME_HEAD_MAX bytes before the message. */
static unsigned char *frame_seal(unsigned char *message, size_t size, int text, uint32_t key) {
    uint64_t mask = (uint64_t)key << 32 | key;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, message + at, 8);
        word ^= mask;
        memcpy(message + at, &word, 8);
    }
    for (; at < size; at++) message[at] ^= ((unsigned char *)&key)[at & 3];
    unsigned char *frame = message - KEY_SIZE;
    memcpy(frame, &key, KEY_SIZE);
    if (size < 126) {
        *--frame = MASKED | (unsigned char)size;
    } else if (size < 65536) {
        *--frame = (unsigned char)size, *--frame = (unsigned char)(size >> 8), *--frame = MASKED | 126;
    } else {
        for (int byte = 0; byte < 8; byte++) *--frame = (unsigned char)((uint64_t)size >> (8 * byte));
        *--frame = MASKED | 127;
    }
    *--frame = FIN | (text ? OPCODE_TEXT : OPCODE_BINARY);
    return frame;
}

#endif
