/* Sends one request over and over and measures. Prints one line of JSON.

   gateway_load PORT CONNECTIONS SECONDS RATE BODY_FILE PATH [HEADER...]

   RATE 0: closed loop, every connection sends again when its answer is complete. RATE r: open loop, r requests a second
   on idle connections, latency counted from when a request should have been sent, so that a stalled server cannot hide
   what it delays. Latencies in microseconds: `first` to the first byte of the body, `total` to the last. A request counts
   as ok when its status is 200 and, for a stream, when [DONE] came. Where the body says `########` each request says its
   own number instead, in the letters a to j, so that no two are the same. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 8192, MOST = 4000000 };

struct connection {
    int fd, busy, head_size, in_body, chunked, status, tail_size, done;
    long length, got;
    uint64_t sent, first;
    char head[8192], tail[64];
};

static struct connection connections[CONNECTIONS];
static char request[1 << 18];
static int request_size, port, poller, total;
static char *number;
static long good, bad, broken, events;
static uint32_t *firsts, *totals;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void dial(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->busy = 0;
    if (connect(c->fd, (void *)&address, sizeof address)) { perror("gateway_load: connect"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event wish = {EPOLLIN, {.u32 = c - connections}};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &wish);
}

static void redial(struct connection *c) {
    if (c->busy) broken++;
    close(c->fd);
    dial(c);
}

static void start(struct connection *c, uint64_t since) {
    c->busy = 1;
    c->head_size = c->in_body = c->chunked = c->tail_size = c->done = 0;
    c->length = -1;
    c->got = 0;
    c->first = 0;
    c->sent = since;
    if (number) {
        static long sent = -1;
        char digits[9];
        if (sent < 0) sent = now_ns() / 1000; /* another run begins elsewhere */
        snprintf(digits, sizeof digits, "%08ld", ++sent % 100000000);
        for (int i = 0; i < 8; i++) number[i] = digits[i] + ('a' - '0');
    }
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != request_size) redial(c);
}

static void finish(struct connection *c) {
    uint64_t now = now_ns();
    c->busy = 0;
    if (c->status != 200 || (c->chunked && !c->done)) { bad++; return; }
    good++;
    if (total < MOST) {
        firsts[total] = (c->first - c->sent) / 1000;
        totals[total++] = (now - c->sent) / 1000;
    }
}

static void read_body(struct connection *c, char *data, int size) {
    if (!c->first) c->first = now_ns();
    c->got += size;
    for (char *at = data; (at = memmem(at, data + size - at, "data:", 5)); at += 5) events++;
    if (memmem(data, size, "[DONE]", 6)) c->done = 1;
    if (!c->chunked) {
        if (c->got >= c->length) finish(c);
        return;
    }
    int keep = size < 7 ? size : 7; /* the last chunk, "0" and two empty lines, may come in pieces */
    if (c->tail_size + keep > (int)sizeof c->tail) { memmove(c->tail, c->tail + c->tail_size - 7, 7); c->tail_size = 7; }
    memcpy(c->tail + c->tail_size, data + size - keep, keep);
    c->tail_size += keep;
    if (c->tail_size >= 5 && !memcmp(c->tail + c->tail_size - 5, "0\r\n\r\n", 5)) finish(c);
}

static void receive(struct connection *c) {
    static char data[1 << 18];
    int size = recv(c->fd, data, sizeof data, 0), used = 0;
    if (size <= 0) { redial(c); return; }
    if (!c->busy) return;
    if (!c->in_body) {
        int room = (int)sizeof c->head - 1 - c->head_size, part = size < room ? size : room, before = c->head_size;
        memcpy(c->head + c->head_size, data, part);
        c->head_size += part;
        c->head[c->head_size] = 0;
        char *end = strstr(c->head, "\r\n\r\n"), *found;
        if (!end) return;
        *end = 0;
        c->in_body = 1;
        c->status = atoi(c->head + 9);
        c->chunked = strcasestr(c->head, "transfer-encoding: chunked") != NULL;
        if ((found = strcasestr(c->head, "content-length:"))) c->length = atol(found + 15);
        used = end + 4 - c->head - before;
    }
    if (size > used) read_body(c, data + used, size - used);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t quantile(uint32_t *values, double q) { return total ? values[(long)((total - 1) * q)] : 0; }

int main(int count, char **word) {
    if (count < 7) { fprintf(stderr, "usage: gateway_load PORT CONNECTIONS SECONDS RATE BODY_FILE PATH [HEADER...]\n"); return 2; }
    port = atoi(word[1]);
    int n = atoi(word[2]), turn = 0;
    double seconds = atof(word[3]), rate = atof(word[4]);
    static char body[1 << 17];
    FILE *file = fopen(word[5], "rb");
    if (!file) { perror(word[5]); return 1; }
    int body_size = fread(body, 1, sizeof body, file);
    request_size = sprintf(request, "POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n", word[6], body_size);
    for (int i = 7; i < count; i++) request_size += sprintf(request + request_size, "%s\r\n", word[i]);
    request_size += sprintf(request + request_size, "\r\n");
    memcpy(request + request_size, body, body_size);
    number = memmem(request + request_size, body_size, "########", 8);
    request_size += body_size;
    firsts = malloc(sizeof *firsts * MOST);
    totals = malloc(sizeof *totals * MOST);
    poller = epoll_create1(0);
    for (int i = 0; i < n; i++) dial(&connections[i]);
    uint64_t began = now_ns(), end = began + seconds * 1e9, step = rate > 0 ? 1e9 / rate : 0, next = began, grace = end + 60000000000ull;
    struct epoll_event found[256];
    for (;;) {
        uint64_t now = now_ns();
        int busy = 0;
        for (int i = 0; i < n; i++) busy += connections[i].busy;
        if ((now >= end && !busy) || now >= grace) break;
        if (!step && now < end) for (int i = 0; i < n; i++) if (!connections[i].busy) start(&connections[i], now_ns());
        for (int tries = 0; step && next <= now && next < end && tries < n; tries++) {
            struct connection *c = &connections[turn++ % n];
            if (c->busy) continue;
            start(c, next);
            next += step;
            tries = -1;
        }
        uint64_t until = step && next < end && next > now ? next : now + 20000000;
        struct timespec wait = {(until - now) / 1000000000, (until - now) % 1000000000};
        int ready = epoll_pwait2(poller, found, 256, &wait, NULL);
        for (int i = 0; i < ready; i++) receive(&connections[found[i].data.u32]);
    }
    qsort(firsts, total, sizeof *firsts, ascending);
    qsort(totals, total, sizeof *totals, ascending);
    printf("{\"good\":%ld,\"bad\":%ld,\"broken\":%ld,\"events\":%ld,\"seconds\":%.3f,\"first_p50\":%u,\"first_p99\":%u,\"total_p50\":%u,\"total_p99\":%u}\n",
        good, bad, broken, events, (now_ns() - began) / 1e9, quantile(firsts, .5), quantile(firsts, .99), quantile(totals, .5), quantile(totals, .99));
    return 0;
}
