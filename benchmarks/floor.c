/* The floor: a C client on epoll that sends pre-built WebSocket frames on absolute deadlines and counts what comes back.
 *
 * usage: floor PORT CALLS RATE SECONDS SETTLE_S < payload     (one line of JSON on standard output)
 * Call k is due first at start + period*k/CALLS, as in every peer. The mask key is zero, so that a frame is masked by
 * nothing and can be built once. Sockets are non-blocking; a frame that the kernel does not take whole is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef long long ns_t;
enum { BUFFER = 65536 };

typedef struct {
    int socket;
    size_t skip;      /* bytes of the current frame's payload that are still to come */
    unsigned char head[14];
    size_t head_length;
} Call;

static ns_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static ns_t cpu_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

/* Time for which this process could have run and another one had its core; 0 where the kernel does not tell. */
static ns_t wait_ns(void) {
    ns_t ran = 0, waited = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (file) {
        if (fscanf(file, "%lld %lld", &ran, &waited) != 2) waited = 0;
        fclose(file);
    }
    return waited;
}

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(int port, int number) {
    int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (made < 0 || connect(made, (struct sockaddr *)&peer, sizeof peer) < 0) die("connect");
    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char text[512];
    int length = snprintf(text, sizeof text,
                          "GET /ws/call/%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          number, port);
    if (send(made, text, length, 0) != length) die("handshake");
    /* byte by byte up to the empty line: what follows belongs to the first frame */
    char seen[4] = {0};
    while (memcmp(seen, "\r\n\r\n", 4)) {
        memmove(seen, seen + 1, 3);
        if (recv(made, seen + 3, 1, 0) != 1) die("handshake");
    }
    return made;
}

/* Count the frames in what has been received. */
static long take(Call *call, const unsigned char *data, size_t size) {
    long frames = 0;
    while (size) {
        if (call->skip) {
            size_t part = call->skip < size ? call->skip : size;
            call->skip -= part, data += part, size -= part;
            continue;
        }
        call->head[call->head_length++] = *data++, size--;
        if (call->head_length < 2) continue;
        unsigned length = call->head[1] & 127;
        size_t wanted = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (call->head_length < wanted) continue;
        size_t payload = length;
        if (wanted > 2) {
            payload = 0;
            for (size_t at = 2; at < wanted; at++) payload = payload << 8 | call->head[at];
        }
        if ((call->head[0] & 15) < 3) frames++;
        call->skip = payload, call->head_length = 0;
    }
    return frames;
}

static int compare(const void *a, const void *b) {
    ns_t x = *(const ns_t *)a, y = *(const ns_t *)b;
    return x < y ? -1 : x > y;
}

int main(int count, char **words) {
    if (count != 6) return 2;
    int port = atoi(words[1]), calls = atoi(words[2]), rate = atoi(words[3]);
    double seconds = atof(words[4]), settle_s = atof(words[5]);
    static unsigned char frame[BUFFER], buffer[BUFFER];
    static char payload[BUFFER];
    size_t size = fread(payload, 1, sizeof payload - 16, stdin), head = 2;
    frame[0] = 0x81;
    if (size < 126) frame[1] = 0x80 | size;
    else frame[1] = 0x80 | 126, frame[2] = size >> 8, frame[3] = size & 255, head = 4;
    memset(frame + head, 0, 4); /* the mask */
    memcpy(frame + head + 4, payload, size);
    size_t length = head + 4 + size;

    Call *all = calloc(calls, sizeof *all);
    int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    for (int k = 0; k < calls; k++) {
        all[k].socket = dial(port, k);
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = &all[k]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, all[k].socket, &want)) die("epoll");
    }
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &want);

    ns_t period = 1000000000LL / rate, start = now_ns() + 100000000LL;
    ns_t open_at = start + (ns_t)(settle_s * 1e9), close_at = open_at + (ns_t)(seconds * 1e9);
    size_t room = (size_t)(calls * (rate * (seconds + 1) + 2)), late_count = 0;
    ns_t *late = malloc(room * sizeof *late), window_start = 0, cpu_start = 0, wait_start = 0;
    long long next = 0, frames_in = 0, errors = 0; /* the next send, counted over all calls in order of their deadlines */
    struct epoll_event events[512];
    for (;;) {
        ns_t now = now_ns();
        if (now >= close_at) break;
        ns_t due;
        while ((due = start + next / calls * period + period * (next % calls) / calls) <= now) {
            ns_t at = now_ns();
            if (!window_start && at >= open_at) window_start = at, cpu_start = cpu_ns(), wait_start = wait_ns(), frames_in = 0, late_count = 0;
            if (late_count < room) late[late_count++] = at - due;
            if (send(all[next % calls].socket, frame, length, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length) errors++;
            next++;
            if (at >= close_at) break;
            now = at;
        }
        /* wake for what is due next, at least half a millisecond from now: as few wake-ups as a wheel of such slots */
        ns_t wake = due > now + 500000 ? due : now + 500000;
        struct itimerspec when = {.it_value = {wake / 1000000000LL, wake % 1000000000LL}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        int ready = epoll_wait(poll, events, 512, -1);
        for (int n = 0; n < ready; n++) {
            Call *call = events[n].data.ptr;
            if (!call) {
                unsigned long long times;
                if (read(timer, &times, 8) < 0 && errno != EAGAIN) die("timer");
                continue;
            }
            ssize_t got = recv(call->socket, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got == 0) errors++, epoll_ctl(poll, EPOLL_CTL_DEL, call->socket, NULL);
            else if (got > 0) frames_in += take(call, buffer, got);
        }
    }
    ns_t window_end = now_ns(), cpu_end = cpu_ns();
    qsort(late, late_count, sizeof *late, compare);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"frames\":%zu,\"frames_in\":%lld,\"cpu_ns\":%lld,\"wait_ns\":%lld,\"start_ns\":%lld,\"end_ns\":%lld,\"errors\":%lld,"
           "\"late_p50_ns\":%lld,\"late_p99_ns\":%lld,\"rss_kib\":%ld}\n",
           late_count, frames_in, cpu_end - cpu_start, wait_ns() - wait_start, window_start, window_end, errors,
           late_count ? late[late_count / 2] : -1, late_count ? late[late_count * 99 / 100] : -1, used.ru_maxrss);
    return 0;
}
