/* lows3: a low-overhead in-memory S3 server, for measuring S3 clients.
 *
 * It exists so that the client under test, not the server, is the bottleneck: one thread, epoll, 10-50 us of
 * processor for a small request. Signatures are accepted unread, so it is no judge of correctness of requests.
 * Bodies above --keep are counted, checked and dropped; they read back as one fixed pattern of 4 MiB, repeated
 * (GET /_lows3/pattern). Whoever uploads files made of that pattern gets his own bytes back, with right checksums,
 * and many GiB need no memory.
 *
 *   cc -O2 -o lows3 *.c -lssl -lcrypto
 *   lows3 [--port 9400] [--keep BYTES] [--latency-us N] [--checksums] [--synthetic N] [--time SECONDS]
 *         [--tls CERT KEY] [--log-first]
 *
 * --synthetic N adds the buckets synthetic, synthetic2 (equal) and synthetic3 (other sizes and etags), which list N
 * generated keys without holding them; their LastModified is --time.
 *
 * Speaks: buckets (list, create, head, delete, location); ListObjects v1 and v2 (prefix, delimiter, start-after,
 * continuation-token, max-keys, encoding-type); Put, Get (ranges, If-Match), Head, Delete, CopyObject;
 * DeleteObjects; multipart (create, part, part copy, complete, abort, ListParts, ListMultipartUploads); aws-chunked
 * bodies with trailers; Expect: 100-continue; with --checksums, x-amz-checksum-crc32c everywhere.
 * GET /_lows3/stats answers counters by kind of request and the time (us of CLOCK_MONOTONIC) of the first request
 * and of the first body; POST /_lows3/stats does so and sets them to zero.
 */
#include "lows3.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

Settings settings = {.port = 9400, .keep = 1 << 20, .time = 1767225600};

/* ---- counters ---- */

static const char *const names[OPS] = {"list",     "head",  "get",        "put",          "copy",
                                       "delete",   "create", "part",      "part_copy",    "complete",
                                       "abort",    "list_parts", "list_uploads", "other"};
static uint64_t counts[OPS], errors, first_request, first_put;

uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void note_first(uint64_t *first, const char *what)
{
    if (*first)
        return;
    *first = now_us();
    if (settings.log_first)
        fprintf(stderr, "first %s at %llu us\n", what, (unsigned long long)*first);
}

void count(Operation op)
{
    counts[op]++;
    note_first(&first_request, "request");
    if (op == OP_PUT || op == OP_PART)
        note_first(&first_put, "put");
}

void count_error(void) { errors++; }

void stats_reply(Conn *c, bool reset)
{
    if (!strcmp(c->path, "/_lows3/pattern")) {
        reply_head(c, "200 OK", PATTERN, "");
        c->big_left = PATTERN;
        c->big_at = 0;
        return;
    }
    Text t = {0};
    text_str(&t, "{");
    for (int i = 0; i < OPS; i++)
        text_format(&t, "\"%s\": %llu, ", names[i], (unsigned long long)counts[i]);
    text_format(&t, "\"errors\": %llu, \"first_request\": %llu, \"first_put\": %llu}\n", (unsigned long long)errors,
                (unsigned long long)first_request, (unsigned long long)first_put);
    reply_head(c, "200 OK", t.length, "Content-Type: application/json\r\n");
    text_add(&c->out, t.at, t.length);
    free(t.at);
    if (reset) {
        memset(counts, 0, sizeof counts);
        errors = first_request = first_put = 0;
    }
}

/* ---- start ---- */

static SSL_CTX *tls_context(const char *cert, const char *key)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (!tls || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls, 1); /* many records with one call */
    SSL_CTX_set_default_read_buffer_len(tls, 256 << 10);
    return tls;
}

static void usage(const char *what)
{
    fprintf(stderr,
            "lows3: %s\nusage: lows3 [--port N] [--keep BYTES] [--latency-us N] [--checksums] [--synthetic N]\n"
            "             [--time SECONDS] [--tls CERT KEY] [--log-first]\n",
            what);
    exit(2);
}

static SSL_CTX *read_options(int argc, char **argv)
{
    SSL_CTX *tls = NULL;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(name, "--checksums")) {
            settings.checksums = true;
        } else if (!strcmp(name, "--log-first")) {
            settings.log_first = true;
        } else if (!value) {
            usage(name);
        } else if (!strcmp(name, "--tls") && i + 2 < argc) {
            tls = tls_context(value, argv[i + 2]);
            i += 2;
        } else {
            uint64_t number = strtoull(value, NULL, 10);
            if (!strcmp(name, "--port"))
                settings.port = number;
            else if (!strcmp(name, "--keep"))
                settings.keep = number;
            else if (!strcmp(name, "--latency-us"))
                settings.latency_us = number;
            else if (!strcmp(name, "--synthetic"))
                settings.synthetic = number;
            else if (!strcmp(name, "--time"))
                settings.time = number;
            else
                usage(name);
            i++;
        }
    }
    return tls;
}

static int listener(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(settings.port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) {
        perror("lows3: cannot listen");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(settings.epoll, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[512];
    crc32c_setup();
    SSL_CTX *tls = read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    store_setup();
    settings.epoll = epoll_create1(0);
    int door = listener(), on = 1;
    for (;;) {
        int n = epoll_wait(settings.epoll, events, 512, conn_wait_ms());
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) {
                conn_serve(events[i].data.ptr, events[i].events);
                continue;
            }
            for (int fd; (fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                conn_new(fd, tls);
            }
        }
        conn_release_due();
    }
}
