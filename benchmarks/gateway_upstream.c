/* A model server that costs next to nothing, so that a benchmark measures the gateway before it and not the model.

   gateway_upstream PORT [PACE_MS]

   One thread, epoll. Any POST is answered in the OpenAI protocol: whole when the body has no "stream":true, else as 50
   events of words, one with the finish, one with the usage, and [DONE]. When the body names the model "paced", PACE_MS
   (default 10) pass between two events; else they are written at once, each with a write of its own. */
#define _GNU_SOURCE
#include <errno.h>
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

enum { WORDS = 50, EVENTS = WORDS + 3, INPUT = 1 << 17, CLIENTS = 16384 };

struct client {
    int fd, used, next; /* next: event to send, or -1 when no stream is under way */
    uint64_t due;       /* when, in microseconds */
    char *input;
};

static struct client clients[CLIENTS];
static struct { char text[512]; int size; } event[EVENTS];
static char whole[2048];
static int whole_size, poller, highest;
static const char *stream_head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
static const char *chunk_head = "{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[";

static const char *words[25] = {"You", "can", "send", "the", "parcel", "back", "within", "30", "days", "of", "delivery", ".", "Open",
    "the", "orders", "page", ",", "choose", "the", "items", "and", "print", "the", "label", "."};

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void set_event(int place, const char *payload) {
    char data[480];
    int size = snprintf(data, sizeof data, "data: %s\n\n", payload);
    event[place].size = snprintf(event[place].text, sizeof event[place].text, "%x\r\n%s\r\n", size, data);
}

static void prepare(void) {
    char payload[440], body[1400];
    for (int i = 0; i < WORDS; i++) {
        snprintf(payload, sizeof payload, "%s{\"index\":0,\"delta\":{\"content\":\" %s\"},\"finish_reason\":null}]}", chunk_head, words[i % 25]);
        set_event(i, payload);
    }
    snprintf(payload, sizeof payload, "%s{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}", chunk_head);
    set_event(WORDS, payload);
    snprintf(payload, sizeof payload, "%s],\"usage\":{\"prompt_tokens\":180,\"completion_tokens\":50,\"total_tokens\":230}}", chunk_head);
    set_event(WORDS + 1, payload);
    set_event(WORDS + 2, "[DONE]");
    event[WORDS + 2].size += sprintf(event[WORDS + 2].text + event[WORDS + 2].size, "0\r\n\r\n");
    int size = snprintf(body, sizeof body,
        "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"You can send the parcel back within thirty days of delivery. Open the orders page, choose "
        "the order and the items, and print the label; the courier collects it the next working day. The money goes back the way it "
        "came, usually within five working days after the parcel has reached us. If something arrived broken, add a photo and no "
        "parcel is needed at all.\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":180,\"completion_tokens\":70,\"total_tokens\":250}}");
    whole_size = snprintf(whole, sizeof whole, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", size, body);
}

static void drop(struct client *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    c->used = 0;
    c->next = -1;
}

/* What is sent is small and the reader is quick; a full socket buffer is waited for instead of queued. */
static int put(struct client *c, const char *data, int size) {
    while (size > 0) {
        int sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) { usleep(200); continue; }
            drop(c);
            return 0;
        }
        data += sent;
        size -= sent;
    }
    return 1;
}

static void send_event(struct client *c, int pace_us) {
    do {
        if (!put(c, event[c->next].text, event[c->next].size)) return;
        c->next++;
        /* the finish, the usage and [DONE] follow each other at once, as servers do it */
    } while (c->next < EVENTS && (pace_us == 0 || c->next > WORDS));
    if (c->next == EVENTS) c->next = -1;
    else c->due += pace_us;
}

/* Answers the first complete request in the input; requests are not pipelined by any client used here. */
static void answer(struct client *c, int pace_us) {
    c->input[c->used] = 0;
    char *end = strstr(c->input, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->input, "content-length:");
    int body = length && length < end ? atoi(length + 15) : 0;
    if (c->used < end + 4 - c->input + body) return;
    int streams = strstr(end, "\"stream\":true") || strstr(end, "\"stream\": true");
    int paced = strstr(end, "\"model\":\"paced\"") || strstr(end, "\"model\": \"paced\"");
    c->used = 0;
    if (!streams) { put(c, whole, whole_size); return; }
    if (!put(c, stream_head, strlen(stream_head))) return;
    c->next = 0;
    c->due = now_us();
    send_event(c, paced ? pace_us : 0);
}

static void receive(struct client *c, int pace_us) {
    int size = recv(c->fd, c->input + c->used, INPUT - 1 - c->used, 0);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) drop(c);
        return;
    }
    c->used += size;
    if (c->next < 0) answer(c, pace_us);
}

static void welcome(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= CLIENTS) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct client *c = &clients[fd];
        if (!c->input) c->input = malloc(INPUT);
        c->fd = fd;
        c->used = 0;
        c->next = -1;
        if (fd > highest) highest = fd;
        struct epoll_event wish = {EPOLLIN, {.fd = fd}};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wish);
    }
}

int main(int count, char **word) {
    if (count < 2) { fprintf(stderr, "usage: gateway_upstream PORT [PACE_MS]\n"); return 2; }
    int pace_us = (count > 2 ? atoi(word[2]) : 10) * 1000, one = 1;
    prepare();
    for (int i = 0; i < CLIENTS; i++) { clients[i].fd = -1; clients[i].next = -1; }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(word[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) { perror("gateway_upstream"); return 1; }
    poller = epoll_create1(0);
    struct epoll_event wish = {EPOLLIN, {.fd = listener}}, found[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wish);
    for (;;) {
        uint64_t now = now_us(), soonest = now + 1000000;
        for (int i = 0; i <= highest; i++) {
            struct client *c = &clients[i];
            if (c->next >= 0 && c->due <= now) send_event(c, pace_us);
            if (c->next >= 0 && c->due < soonest) soonest = c->due;
        }
        struct timespec wait = {.tv_sec = 0, .tv_nsec = 0};
        now = now_us();
        if (soonest > now) { wait.tv_sec = (soonest - now) / 1000000; wait.tv_nsec = (soonest - now) % 1000000 * 1000; }
        int n = epoll_pwait2(poller, found, 256, &wait, NULL);
        for (int i = 0; i < n; i++) {
            int fd = found[i].data.fd;
            if (fd == listener) welcome(listener);
            else if (clients[fd].fd >= 0) receive(&clients[fd], pace_us);
        }
    }
}
