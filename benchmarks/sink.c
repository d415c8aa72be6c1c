/* A light target: takes `POST /api/v1/calls/start` and any WebSocket, counts the frames that it hears, drops them.
 *
 * usage: sink CPU LINGER_MS [FILE]   (one line of JSON with its URL on standard output; ends when standard input does)
 * CPU -1: any. LINGER_MS 0: reads each socket as soon as something has come; else each WebSocket once in that time, by turns,
 * as a receiver that moderates its interrupts: it then costs a fraction, and its answers to pings are that much later.
 * `GET /stats` answers as benchmarks/sink.py does: samples of 250 ms since the last such request. For loads that a sink
 * in Python cannot hear. It answers pings and closing handshakes, and says the message in FILE to each WebSocket every 20 ms.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef long long ns_t;
enum { BUFFER = 262144, SEGMENT = 1460 /* Ethernet's */, HEAD_MAX = 4096, CONTROL_MAX = 125, SAMPLES_MAX = 2000, ANSWER_MAX = 2 << 20 };
#define SAMPLE_NS 250000000LL
#define PERIOD_NS 20000000LL /* between two messages of one socket */
enum { SLOTS = 40, LATE_MAX = 65536 };
#define SLOT_NS (PERIOD_NS / SLOTS)

typedef struct {
    int socket, is_websocket;
    char *head;               /* an HTTP request that has not come whole */
    size_t head_length;
    size_t skip;              /* bytes of the current frame's payload that are still to come */
    unsigned char frame[14], control[CONTROL_MAX]; /* a frame's header; the payload of a ping or close */
    size_t frame_length, control_length;
    int opcode;
    int turn;                 /* its place among those that are read by turns; -1: read at once */
    int slot, place;          /* when in each period it is spoken to, and its place among those of that slot */
} Peer;

typedef struct {
    Peer **all;
    int count, room;
} List;

typedef struct {
    ns_t start, end, cpu, wait, late_p99;
    long long heard, said;
    int connections;
} Sample;

static Sample samples[SAMPLES_MAX];
static int sample_count, connections, next_call, late_count;
static List turns, slots[SLOTS];
static long long frames_in, frames_before, frames_out, frames_out_before, frames_dropped;
static ns_t late[LATE_MAX];
static unsigned char spoken[65536 + 4];
static size_t spoken_length;
static ns_t last_at, last_cpu, last_wait;
static unsigned char buffer[BUFFER];
static char answer[ANSWER_MAX];

static ns_t clock_ns(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static ns_t wait_ns(void) { /* for which another process had the core (one thread only) */
    FILE *file = fopen("/proc/self/schedstat", "r");
    long long ran, waited = 0;
    if (file) {
        if (fscanf(file, "%lld %lld", &ran, &waited) != 2) waited = 0;
        fclose(file);
    }
    return waited;
}

static int compare(const void *a, const void *b) {
    ns_t x = *(const ns_t *)a, y = *(const ns_t *)b;
    return x < y ? -1 : x > y;
}

static void take_sample(void) {
    qsort(late, (size_t)late_count, sizeof *late, compare);
    ns_t late_p99 = late_count ? late[late_count * 99 / 100] : -1;
    late_count = 0;
    ns_t at = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wait = wait_ns();
    if (last_at && sample_count < SAMPLES_MAX)
        samples[sample_count++] = (Sample){last_at, at, cpu - last_cpu, wait - last_wait, late_p99,
                                           frames_in - frames_before, frames_out - frames_out_before, connections};
    last_at = at, last_cpu = cpu, last_wait = wait, frames_before = frames_in, frames_out_before = frames_out;
}

static int list_add(List *list, Peer *peer) { /* returns its place */
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 64;
        list->all = realloc(list->all, (size_t)list->room * sizeof *list->all);
    }
    list->all[list->count] = peer;
    return list->count++;
}

/* --- SHA-1 (RFC 3174) and base64, for the handshake --- */

static uint32_t rotate(uint32_t word, int by) { return word << by | word >> (32 - by); }

static void sha1(const unsigned char *text, size_t length, unsigned char digest[20]) {
    uint32_t state[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[256] = {0}; /* a key and the GUID are 60 bytes */
    size_t blocks = (length + 8) / 64 + 1;
    memcpy(padded, text, length);
    padded[length] = 0x80;
    for (int at = 0; at < 8; at++) padded[blocks * 64 - 1 - at] = (unsigned char)((uint64_t)length * 8 >> (8 * at));
    for (size_t block = 0; block < blocks; block++) {
        uint32_t w[80], v[5];
        for (int t = 0; t < 16; t++) {
            const unsigned char *four = padded + block * 64 + t * 4;
            w[t] = (uint32_t)four[0] << 24 | (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 | four[3];
        }
        for (int t = 16; t < 80; t++) w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        memcpy(v, state, sizeof v);
        for (int t = 0; t < 80; t++) {
            uint32_t f = t < 20   ? (v[1] & v[2]) | (~v[1] & v[3])
                         : t < 40 ? v[1] ^ v[2] ^ v[3]
                         : t < 60 ? (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])
                                  : v[1] ^ v[2] ^ v[3];
            uint32_t k = t < 20 ? 0x5A827999 : t < 40 ? 0x6ED9EBA1 : t < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t next = rotate(v[0], 5) + f + v[4] + w[t] + k;
            v[4] = v[3], v[3] = v[2], v[2] = rotate(v[1], 30), v[1] = v[0], v[0] = next;
        }
        for (int at = 0; at < 5; at++) state[at] += v[at];
    }
    for (int at = 0; at < 20; at++) digest[at] = (unsigned char)(state[at / 4] >> (24 - at % 4 * 8));
}

static void accept_key(const char *key, size_t length, char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char text[128], digest[21] = {0};
    memcpy(text, key, length);
    memcpy(text + length, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(text, length + 36, digest);
    for (int at = 0; at < 7; at++) {
        uint32_t three = (uint32_t)digest[at * 3] << 16 | (uint32_t)digest[at * 3 + 1] << 8 | digest[at * 3 + 2];
        for (int n = 0; n < 4; n++) out[at * 4 + n] = letters[three >> (18 - 6 * n) & 63];
    }
    out[27] = '=', out[28] = 0;
}

/* --- HTTP --- */

/* Return a header's value and its length up to a comma or the end of the line; NULL: it is not there. */
static const char *header(const char *head, const char *name, size_t *length) {
    const char *line = strcasestr(head, name);
    if (!line) return NULL;
    line += strlen(name);
    while (*line == ' ') line++;
    *length = strcspn(line, ",\r\n");
    return line;
}

static void say(Peer *peer, const char *text, size_t length) {
    while (length) {
        ssize_t sent = send(peer->socket, text, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) text += sent, length -= sent;
    }
}

static void say_json(Peer *peer, const char *json) {
    char head[128];
    int length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                          strlen(json));
    say(peer, head, length);
    say(peer, json, strlen(json));
}

static void say_stats(Peer *peer) {
    size_t at = snprintf(answer, sizeof answer, "{\"connections\":%d,\"frames_in\":%lld,\"frames_out\":%lld,"
                         "\"frames_dropped\":%lld,\"samples\":[", connections, frames_in, frames_out, frames_dropped);
    for (int n = 0; n < sample_count; n++) {
        Sample *s = &samples[n];
        char late_ms[32] = "null";
        if (s->late_p99 >= 0) snprintf(late_ms, sizeof late_ms, "%.3f", (double)s->late_p99 / 1e6);
        at += snprintf(answer + at, sizeof answer - at,
                       "%s{\"start_ns\":%lld,\"end_ns\":%lld,\"cpu_ns\":%lld,\"wait_ns\":%lld,\"connections\":%d,"
                       "\"frames_in\":%lld,\"frames_out\":%lld,\"lateness_p99_ms\":%s}",
                       n ? "," : "", s->start, s->end, s->cpu, s->wait, s->connections, s->heard, s->said, late_ms);
    }
    snprintf(answer + at, sizeof answer - at, "]}");
    sample_count = 0;
    say_json(peer, answer);
}

static void answer_request(Peer *peer) {
    size_t length;
    const char *key = header(peer->head, "\r\nSec-WebSocket-Key:", &length);
    if (key && length < 64) {
        char accepted[29], text[512], protocol[128] = "";
        accept_key(key, length, accepted);
        const char *offered = header(peer->head, "\r\nSec-WebSocket-Protocol:", &length);
        if (offered && length < 64)
            snprintf(protocol, sizeof protocol, "Sec-WebSocket-Protocol: %.*s\r\n", (int)length, offered);
        int size = snprintf(text, sizeof text, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n", accepted, protocol);
        peer->is_websocket = 1, connections++;
        say(peer, text, size);
        if (spoken_length) { /* its phase is that at which it came */
            peer->slot = (int)(clock_ns(CLOCK_MONOTONIC) % PERIOD_NS / SLOT_NS);
            peer->place = list_add(&slots[peer->slot], peer);
        }
    } else if (!strncmp(peer->head, "GET /stats", 10)) {
        say_stats(peer);
    } else {
        char json[64];
        snprintf(json, sizeof json, "{\"session_id\":\"call%d\",\"status\":\"started\"}", next_call++);
        say_json(peer, json);
    }
}

/* Take the bytes of HTTP requests; returns how many of `data` were taken, -1 for a request that is too large. */
static ssize_t take_http(Peer *peer, const unsigned char *data, size_t size) {
    size_t before = peer->head_length, wanted;
    if (!peer->head) peer->head = malloc(HEAD_MAX + 1);
    size_t part = size < HEAD_MAX - before ? size : HEAD_MAX - before;
    memcpy(peer->head + before, data, part);
    peer->head[before + part] = 0;
    char *end = strstr(peer->head, "\r\n\r\n");
    if (end) {
        size_t digits;
        const char *body = header(peer->head, "\r\nContent-Length:", &digits);
        wanted = end + 4 - peer->head + (body ? strtoul(body, NULL, 10) : 0);
    } else {
        wanted = HEAD_MAX + 1;
    }
    if (before + part < wanted) {
        peer->head_length = before + part;
        return part == size ? (ssize_t)part : -1;
    }
    answer_request(peer);
    peer->head_length = 0;
    free(peer->head);
    peer->head = NULL;
    return wanted - before;
}

/* --- WebSocket --- */

/* A ping or a close is whole: answer it. Returns whether the connection is over. */
static int take_control(Peer *peer) {
    size_t head = peer->frame_length;
    for (size_t at = 0; at < peer->control_length; at++) peer->control[at] ^= peer->frame[head - 4 + at % 4];
    char reply[CONTROL_MAX + 2];
    reply[0] = (char)(0x80 | (peer->opcode == 9 ? 10 : 8)), reply[1] = (char)peer->control_length;
    memcpy(reply + 2, peer->control, peer->control_length);
    if (peer->opcode == 8 || peer->opcode == 9) say(peer, reply, peer->control_length + 2);
    return peer->opcode == 8;
}

/* Take bytes of frames; returns whether the connection is over. */
static int take_frames(Peer *peer, const unsigned char *data, size_t size) {
    for (;;) {
        if (peer->skip) {
            if (!size) return 0;
            size_t part = peer->skip < size ? peer->skip : size;
            if (peer->opcode >= 8 && peer->control_length + part <= CONTROL_MAX)
                memcpy(peer->control + peer->control_length, data, part), peer->control_length += part;
            peer->skip -= part, data += part, size -= part;
            if (peer->skip) return 0;
            if (peer->opcode >= 8 && take_control(peer)) return 1;
            peer->frame_length = 0;
            continue;
        }
        if (!size) return 0;
        peer->frame[peer->frame_length++] = *data++, size--;
        if (peer->frame_length < 2) continue;
        unsigned length = peer->frame[1] & 127, masked = peer->frame[1] >> 7;
        size_t extra = length == 126 ? 2 : length == 127 ? 8 : 0, wanted = 2 + extra + (masked ? 4 : 0);
        if (peer->frame_length < wanted) continue;
        size_t payload = extra ? 0 : length;
        for (size_t at = 2; at < 2 + extra; at++) payload = payload << 8 | peer->frame[at];
        peer->opcode = peer->frame[0] & 15, peer->skip = payload, peer->control_length = 0;
        if (peer->opcode < 3) frames_in++;
        if (!payload) {
            if (peer->opcode >= 8 && take_control(peer)) return 1;
            peer->frame_length = 0;
        }
    }
}

static void drop(Peer *peer) {
    if (peer->is_websocket) connections--;
    if (peer->turn >= 0) turns.all[peer->turn] = turns.all[--turns.count], turns.all[peer->turn]->turn = peer->turn;
    if (peer->is_websocket && spoken_length) {
        List *list = &slots[peer->slot];
        list->all[peer->place] = list->all[--list->count], list->all[peer->place]->place = peer->place;
    }
    close(peer->socket);
    free(peer->head);
    free(peer);
}

/* Take a socket from the poll and read it by turns from now on. */
static void take_turns(Peer *peer, int poll) {
    epoll_ctl(poll, EPOLL_CTL_DEL, peer->socket, NULL);
    int unread = BUFFER; /* nobody waits for less: with it the kernel acknowledges also what leaves little of the window */
    setsockopt(peer->socket, SOL_SOCKET, SO_RCVLOWAT, &unread, sizeof unread);
    peer->turn = list_add(&turns, peer);
}

/* Speak to all whose slots have passed; returns when the next one will have. */
static ns_t speak(void) {
    static ns_t next; /* the end of the first slot that has not been served */
    ns_t at = clock_ns(CLOCK_MONOTONIC);
    for (next = next ? next : (at / SLOT_NS + 1) * SLOT_NS; next <= at; next += SLOT_NS) {
        List *list = &slots[(next / SLOT_NS - 1) % SLOTS];
        for (int n = 0; n < list->count; n++) {
            if (late_count < LATE_MAX) late[late_count++] = clock_ns(CLOCK_MONOTONIC) - next;
            ssize_t sent = send(list->all[n]->socket, spoken, spoken_length, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent == (ssize_t)spoken_length) frames_out++;
            else frames_dropped++;
            if (sent > 0 && sent < (ssize_t)spoken_length) /* the rest must follow, or no frame after it is one */
                say(list->all[n], (char *)spoken + sent, spoken_length - (size_t)sent);
        }
    }
    return next;
}

/* Read the message that is said, and make a frame of it. Returns whether there is one. */
static int read_spoken(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(spoken + 4, 1, sizeof spoken - 4, file) : 0;
    if (file) fclose(file);
    if (size < 126) return 0; /* a frame of audio is longer */
    spoken[0] = 0x81, spoken[1] = 126, spoken[2] = (unsigned char)(size >> 8), spoken[3] = (unsigned char)size;
    spoken_length = size + 4;
    return 1;
}

static void serve(Peer *peer, int poll) {
    ssize_t got = recv(peer->socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int over = got <= 0;
    const unsigned char *data = buffer;
    while (!over && got > 0) {
        if (peer->is_websocket) {
            over = take_frames(peer, data, got);
            break;
        }
        ssize_t taken = take_http(peer, data, got);
        if (taken < 0) over = 1;
        else data += taken, got -= taken;
    }
    if (over) drop(peer);
    else if (peer->is_websocket && poll >= 0) take_turns(peer, poll);
}

/* Read those whose turn has come; returns for how many ms there is nothing to do. */
static int serve_turns(ns_t linger_ns) {
    static ns_t before;
    static double owed;
    static int next;
    ns_t at = clock_ns(CLOCK_MONOTONIC);
    owed += before ? (double)(at - before) / linger_ns * turns.count : 0;
    before = at;
    if (owed > turns.count) owed = turns.count;
    for (; owed >= 1 && turns.count; owed--) {
        if (next >= turns.count) next = 0;
        serve(turns.all[next++], -1); /* one that ends here leaves its place to the last, whose turn comes later */
    }
    return turns.count ? 2 : 50;
}

int main(int count, char **words) {
    if (count < 3 || count > 4 || (count == 4 && !read_spoken(words[3]))) return 2;
    ns_t linger_ns = atoi(words[2]) * 1000000LL;
    if (atoi(words[1]) >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(atoi(words[1]), &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    /* as all processes of the benchmark (without the right to it nothing happens); one that lingers can wait */
    if (!linger_ns) setpriority(PRIO_PROCESS, 0, -10);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int segment = SEGMENT; /* larger frames are acknowledged at once as on a network; loopback's 64 kB wait for a timer each */
    setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&at, &size);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL}, input = {.events = EPOLLIN | EPOLLHUP, .data.ptr = &on};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &want);
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &input);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event tick = {.events = EPOLLIN, .data.ptr = &timer};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &tick);
    printf("{\"url\":\"http://127.0.0.1:%d\",\"tls_url\":\"\",\"ca\":\"\"}\n", ntohs(at.sin_port));
    fflush(stdout);
    struct epoll_event events[512];
    for (;;) {
        if (spoken_length && connections) {
            ns_t next = speak();
            struct itimerspec when = {.it_value = {next / 1000000000LL, next % 1000000000LL}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        int ready = epoll_wait(poll, events, 512, linger_ns ? serve_turns(linger_ns) : 50);
        if (!last_at || clock_ns(CLOCK_MONOTONIC) - last_at >= SAMPLE_NS) take_sample();
        for (int n = 0; n < ready; n++) {
            if (events[n].data.ptr == &on) {
                if (read(0, buffer, sizeof buffer) <= 0) return 0;
            } else if (events[n].data.ptr == &timer) {
                if (read(timer, buffer, 8) < 0 && errno != EAGAIN) return 1;
            } else if (events[n].data.ptr) {
                serve(events[n].data.ptr, linger_ns ? poll : -1);
            } else {
                int made;
                while ((made = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    Peer *peer = calloc(1, sizeof *peer);
                    peer->socket = made, peer->turn = -1;
                    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    want.data.ptr = peer;
                    epoll_ctl(poll, EPOLL_CTL_ADD, made, &want);
                }
            }
        }
    }
}
