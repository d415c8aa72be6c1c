/* WebSocket frames (RFC 6455, 5.2 and 5.3): a client's own are masked where they stand, a server's are found in bytes. */
#ifndef VOXLOAD_FRAME_H
#define VOXLOAD_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { FRAME_HEAD_MAX = 16, FRAME_ROOM = FRAME_HEAD_MAX + 8 }; /* the message begins at a multiple of 8 */
enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_PING = 9, OPCODE_PONG = 10, FIN = 0x80, MASKED = 0x80, KEY_SIZE = 4 };

/* Return where the frame begins, in the FRAME_HEAD_MAX bytes before the message. */
static inline unsigned char *frame_seal(unsigned char *message, size_t size, int opcode, uint32_t key) {
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
    *--frame = (unsigned char)(FIN | opcode);
    return frame;
}

typedef struct {
    size_t size; /* with its header */
    const unsigned char *payload;
    size_t payload_size;
    int plain, text; /* plain: a whole message, as a server sends it, of text or else binary */
    int pong;        /* the answer to a ping, as a server sends it */
} Frame;

/* Return the size of a frame's header without the key, from its first two bytes. */
static inline size_t frame_head(const unsigned char *at) {
    size_t length = at[1] & 0x7f;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

/* Return the size of the frame that begins there, header and all; 0: the header is not there to its end. */
static inline uint64_t frame_size(const unsigned char *at, size_t size) {
    if (size < 2) return 0;
    size_t head = frame_head(at);
    if (size < head) return 0;
    uint64_t payload = head == 2 ? at[1] & 0x7f : 0;
    for (size_t byte = 2; byte < head; byte++) payload = payload << 8 | at[byte];
    head += at[1] & MASKED ? KEY_SIZE : 0;
    return payload > UINT64_MAX - head ? UINT64_MAX : payload + head;
}

/* Find the frame that begins there; 0: it is not there to its end. */
static inline int frame_read(Frame *frame, const unsigned char *at, size_t size) {
    uint64_t whole = frame_size(at, size);
    if (!whole || whole > size) return 0;
    size_t head = frame_head(at);
    frame->size = (size_t)whole, frame->payload = at + head, frame->payload_size = (size_t)whole - head;
    frame->text = at[0] == (FIN | OPCODE_TEXT);
    int shortest = head == 2 || frame->payload_size > (head == 4 ? 125 : 65535); /* a longer length than needed is an error */
    shortest = shortest && !(at[1] & MASKED);
    frame->plain = shortest && (frame->text || at[0] == (FIN | OPCODE_BINARY));
    frame->pong = shortest && at[0] == (FIN | OPCODE_PONG) && frame->payload_size < 126; /* RFC 6455, 5.5 */
    return 1;
}

#endif
