// Clients of streams: so many at once, so many in all, each sends its next request when its answer is whole.
//
//   cc -O2 -o load load.c && ./load PORT AT_ONCE IN_ALL EVENTS
//
// Prints one JSON object: events a second, seconds to the first event (median, 99th percentile), and what went wrong. An answer is right
// with status 200, so many events and [DONE], and a chunk of no bytes at its very end.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, HEAD = 4096 };

struct client {
    int in_head, have, events, bad;
    char head[HEAD + 1], tail[16], before;  // tail: the last bytes of the answer
    double began, first;
};

static struct client *clients;
static int poller, in_all, begun, ended, wrong, wanted, times;
static long events;
static double *first;
static char request[2048];
static struct sockaddr_in there;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void ask(int fd) {
    struct client *c = &clients[fd];
    memset(c, 0, sizeof *c);
    c->in_head = 1;
    c->began = now();
    begun++;
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request)) c->bad = 1;
}

static void come(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || fd >= MOST || connect(fd, (void *)&there, sizeof there)) {
        perror("load");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    ask(fd);
}

static void whole(int fd, int again) {
    struct client *c = &clients[fd];
    ended++;
    if (c->bad || c->events != wanted) wrong++;
    if (c->first) first[times++] = c->first - c->began;
    if (again && !c->bad && begun < in_all) {
        ask(fd);
        return;
    }
    close(fd);
    if (begun < in_all) come();
}

static void body(int fd, const char *data, int size) {
    struct client *c = &clients[fd];
    if (!size) return;
    for (int i = 0; i < size; i++) {
        // An event ends with an empty line.
        if (data[i] == '\n' && c->before == '\n') {
            c->events++;
            events++;
        }
        c->before = data[i];
    }
    if (c->events && !c->first) c->first = now();
    int kept = size < (int)sizeof c->tail ? size : (int)sizeof c->tail;
    memmove(c->tail, c->tail + kept, sizeof c->tail - kept);
    memcpy(c->tail + sizeof c->tail - kept, data + size - kept, kept);
    if (!memcmp(c->tail + sizeof c->tail - 5, "0\r\n\r\n", 5)) whole(fd, 1);
}

static void hear(int fd) {
    static char data[1 << 16];
    struct client *c = &clients[fd];
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        c->bad = 1;
        whole(fd, 0);
    } else if (!c->in_head) {
        body(fd, data, n);
    } else {
        int kept = n < HEAD - c->have ? n : HEAD - c->have;
        memcpy(c->head + c->have, data, kept);
        int before = c->have;
        c->have += kept;
        char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
        if (!end) return;
        c->in_head = 0;
        if (strncmp(c->head + 9, "200", 3)) {
            fprintf(stderr, "%.300s\n", c->head);
            c->bad = 1;
            whole(fd, 0);
            return;
        }
        int begins = end + 4 - c->head - before;
        body(fd, data + begins, n - begins);
    }
}

static int by_size(const void *a, const void *b) { return *(double *)a < *(double *)b ? -1 : *(double *)a > *(double *)b; }

int main(int count, char **words) {
    if (count < 5) return 2;
    int port = atoi(words[1]), at_once = atoi(words[2]);
    in_all = atoi(words[3]);
    wanted = atoi(words[4]);
    clients = calloc(MOST, sizeof *clients);
    first = calloc(in_all, sizeof *first);
    static const char ASK[] =
        "{\"model\":\"mock\",\"messages\":[{\"role\":\"user\",\"content\":\"Which words are short, and which of them are shorter?\"}],"
        "\"max_tokens\":128,\"stream\":true}";
    snprintf(request, sizeof request, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-bench\r\nContent-Length: %zu\r\n\r\n%s", port, sizeof ASK - 1, ASK);
    there = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    poller = epoll_create1(0);
    double began = now();
    for (int i = 0; i < at_once && begun < in_all; i++) come();
    struct epoll_event found[512];
    while (ended < in_all && now() - began < 60) {
        int n = epoll_wait(poller, found, 512, 1000);
        for (int i = 0; i < n; i++) hear(found[i].data.fd);
    }
    double took = now() - began;
    qsort(first, times, sizeof *first, by_size);
    printf("{\"seconds\": %.4f, \"events\": %ld, \"first_p50\": %.6f, \"first_p99\": %.6f, \"wrong\": %d}\n", took, events, times ? first[times / 2] : -1, times ? first[times * 99 / 100] : -1,
           wrong + in_all - ended);
}
