// An engine that costs next to nothing: answers chat completions at once, or as a stream of events, on one thread.
//
//   cc -O2 -o engine engine.c && ./engine PORT
//
// GET /set?chunks=N&pace_us=N: events of a stream, and microseconds between two of them (0: as fast as sockets take them).
// It knows enough of HTTP/1.1 for gateways that mean well: bodies with Content-Length or in chunks, connections that stay.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, ROOM = 1 << 20, OUT = 1 << 16 };

struct client {
    char *in, *out;
    int have, from, to;           // bytes read and not yet understood; bytes of `out` that no socket took yet
    int open, blocked, left, at;  // left: events to come, -1 outside a stream; at: its place among the streams
    long due;
};

static struct client clients[MOST];
static int streams[MOST], running, poller, chunks = 128;
static long pace;

static const char EVENT[] =
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,"
    "\"delta\":{\"content\":\" a word or two\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
static const char LAST[] =
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,"
    "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
static const char WHOLE[] =
    "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":"
    "{\"role\":\"assistant\",\"content\":\"A word or two\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"
    "{\"prompt_tokens\":40,\"completion_tokens\":4,\"total_tokens\":44}}";
static const char MODELS[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\",\"max_model_len\":32768}]}";
static const char INFO[] = "{\"model_path\":\"mock\",\"served_model_name\":\"mock\",\"tokenizer_path\":\"mock\",\"is_generation\":true,\"dp_size\":1}";

static long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void leave_stream(struct client *c) {
    if (c->left < 0) return;
    c->left = -1;
    int moved = streams[c->at] = streams[--running];
    clients[moved].at = c->at;
}

static void hang_up(int fd) {
    struct client *c = &clients[fd];
    leave_stream(c);
    free(c->in);
    free(c->out);
    memset(c, 0, sizeof *c);
    close(fd);
}

static void want(int fd, int blocked) {
    clients[fd].blocked = blocked;
    struct epoll_event e = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &e);
}

// Returns 0 where the client is gone.
static int flush(int fd) {
    struct client *c = &clients[fd];
    while (c->from < c->to) {
        ssize_t n = write(fd, c->out + c->from, c->to - c->from);
        if (n < 0 && errno == EAGAIN) {
            if (!c->blocked) want(fd, 1);
            return 1;
        }
        if (n < 0) {
            hang_up(fd);
            return 0;
        }
        c->from += n;
    }
    c->from = c->to = 0;
    if (c->blocked) want(fd, 0);
    return 1;
}

static int send_all(int fd, const char *data, int size) {
    struct client *c = &clients[fd];
    if (c->to + size > OUT) {
        hang_up(fd);
        return 0;
    }
    memcpy(c->out + c->to, data, size);
    c->to += size;
    return c->blocked ? 1 : flush(fd);
}

static int answer(int fd, const char *kind, const char *body) {
    char text[2048];
    return send_all(fd, text, snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", kind, strlen(body), body));
}

static int next_event(int fd) {
    struct client *c = &clients[fd];
    char text[1024];
    if (c->left > 0) {
        c->left--;
        return send_all(fd, text, snprintf(text, sizeof text, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT));
    }
    leave_stream(c);
    return send_all(fd, text, snprintf(text, sizeof text, "%zx\r\n%s\r\n0\r\n\r\n", sizeof LAST - 1, LAST));
}

static int serve(int fd, const char *head, const char *body) {
    if (!strncmp(head, "POST", 4)) {
        const char *asked = strstr(body, "\"stream\"");
        asked = asked ? asked + 8 + strspn(asked + 8, " :") : "";
        if (strncmp(asked, "true", 4)) return answer(fd, "application/json", WHOLE);
        static const char BEGIN[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
        if (!send_all(fd, BEGIN, sizeof BEGIN - 1)) return 0;
        struct client *c = &clients[fd];
        c->left = chunks;
        c->due = now_us() + pace;
        c->at = running;
        streams[running++] = fd;
        return 1;
    }
    const char *at;
    if ((at = strstr(head, "chunks="))) chunks = atoi(at + 7);
    if ((at = strstr(head, "pace_us="))) pace = atol(at + 8);
    if (strstr(head, " /v1/models")) return answer(fd, "application/json", MODELS);
    if (strstr(head, "info")) return answer(fd, "application/json", INFO);
    if (strstr(head, " /metrics")) return answer(fd, "text/plain; version=0.0.4", "vllm:num_requests_running{model_name=\"mock\"} 1.0\nvllm:num_requests_waiting{model_name=\"mock\"} 0.0\n");
    return answer(fd, "application/json", "{\"status\":\"ok\"}");
}

static void hear(int fd) {
    struct client *c = &clients[fd];
    ssize_t n = read(fd, c->in + c->have, ROOM - c->have);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) hang_up(fd);
        return;
    }
    c->have += n;
    while (c->have) {
        c->in[c->have] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return;
        char *body = end + 4, *after;
        *end = 0;
        char *length = strcasestr(c->in, "\r\ncontent-length:"), *coded = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
        long size = length ? atol(length + 17) : 0;
        *end = '\r';
        if (coded) {
            after = strstr(body, "\r\n0\r\n\r\n");
            if (!after) return;
            after += 7;
        } else {
            after = body + size;
        }
        if (after > c->in + c->have) return;
        char kept = *after;
        *after = 0;
        if (!serve(fd, c->in, body)) return;
        *after = kept;
        c->have -= after - c->in;
        memmove(c->in, after, c->have);
    }
}

static void welcome(int door) {
    int fd, one = 1;
    while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MOST) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = (struct client){.in = malloc(ROOM + 1), .out = malloc(OUT), .open = 1, .left = -1};
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

// Microseconds until the next event of any stream; -1: until something comes.
static long until_due(void) {
    long first = -1, now = now_us();
    for (int i = 0; i < running; i++) {
        struct client *c = &clients[streams[i]];
        if (c->blocked) continue;
        long wait = pace && c->due > now ? c->due - now : 0;
        if (first < 0 || wait < first) first = wait;
    }
    return first;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(count > 1 ? atoi(words[1]) : 9001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(door, (void *)&here, sizeof here) || listen(door, 4096)) {
        perror("engine");
        return 1;
    }
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = door}, found[512];
    epoll_ctl(poller, EPOLL_CTL_ADD, door, &e);
    for (;;) {
        long wait = until_due();
        struct timespec span = {wait / 1000000, wait % 1000000 * 1000};
        int n = epoll_pwait2(poller, found, 512, wait < 0 ? NULL : &span, NULL);
        for (int i = 0; i < n; i++) {
            int fd = found[i].data.fd;
            if (fd == door) {
                welcome(door);
            } else if (clients[fd].open) {
                if (found[i].events & EPOLLOUT && !flush(fd)) continue;
                if (found[i].events & ~EPOLLOUT) hear(fd);
            }
        }
        long now = now_us();
        for (int i = running - 1; i >= 0; i--) {
            struct client *c = &clients[streams[i]];
            if (c->blocked || (pace && c->due > now)) continue;
            c->due += pace;
            if (c->due < now) c->due = now + pace;
            next_event(streams[i]);
        }
    }
}
