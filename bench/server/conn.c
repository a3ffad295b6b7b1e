/* One connection: bytes in (plain or TLS), request parsed, body taken, reply out, perhaps late. */
#include "lows3.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_STEP = 32768, DROP_STEP = 512 << 10, SEND_STEP = 1 << 20 };
enum { CLOSED = 0, LATER = -1, BROKEN = -2 };

static char dropped[DROP_STEP]; /* where bodies that are not kept pass through */
static Conn *queue_first, *queue_last;

/* ---- bytes in and out ---- */

static ssize_t tls_result(Conn *c, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(c->ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return LATER;
    case SSL_ERROR_ZERO_RETURN: return CLOSED;
    default: return BROKEN;
    }
}

static ssize_t take(Conn *c, void *to, size_t n)
{
    if (c->ssl) {
        ERR_clear_error();
        return tls_result(c, SSL_read(c->ssl, to, n));
    }
    ssize_t got = recv(c->fd, to, n, 0);
    return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? LATER : BROKEN;
}

static ssize_t give(Conn *c, const void *from, size_t n, bool more)
{
    if (c->ssl) {
        ERR_clear_error();
        ssize_t sent = tls_result(c, SSL_write(c->ssl, from, n));
        return sent == CLOSED ? BROKEN : sent;
    }
    ssize_t sent = send(c->fd, from, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    return sent >= 0 ? sent : errno == EAGAIN || errno == EINTR ? LATER : BROKEN;
}

static void watch(Conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(settings.epoll, EPOLL_CTL_MOD, c->fd, &e);
}

Conn *conn_new(int fd, SSL_CTX *tls)
{
    Conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    if (tls) {
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, fd);
        SSL_set_accept_state(c->ssl);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(settings.epoll, EPOLL_CTL_ADD, fd, &e);
    return c;
}

void conn_drop(Conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    if (c->due) /* still in the delay queue, which frees it */
        return;
    SSL_free(c->ssl);
    blob_drop(c->body);
    blob_drop(c->big);
    free(c->meta);
    free(c->in.at);
    free(c->out.at);
    free(c->line.at);
    free(c);
}

/* ---- the request ---- */

static void copy_value(char *to, size_t room, const char *value) { snprintf(to, room, "%s", value); }

#define IS(text) (n == sizeof(text) - 1 && !strncasecmp(name, text, n))

static void header(Conn *c, Text *meta, const char *name, size_t n, const char *value)
{
    if (n > 11 && !strncasecmp(name, "x-amz-meta-", 11)) {
        text_add(meta, name, n);
        text_add(meta, ": ", 2);
        text_str(meta, value);
        text_add(meta, "\r\n", 2);
    } else if (IS("content-length")) {
        c->length = strtoull(value, NULL, 10);
    } else if (IS("content-type")) {
        text_str(meta, "Content-Type: ");
        text_str(meta, value);
        text_add(meta, "\r\n", 2);
    } else if (IS("range") || IS("x-amz-copy-source-range")) {
        copy_value(c->range, sizeof c->range, value);
    } else if (IS("if-match")) {
        copy_value(c->if_match, sizeof c->if_match, value);
    } else if (IS("if-none-match")) {
        copy_value(c->if_none_match, sizeof c->if_none_match, value);
    } else if (IS("x-amz-copy-source")) {
        copy_value(c->copy_source, sizeof c->copy_source, value);
        url_unescape(c->copy_source);
    } else if (IS("x-amz-copy-source-if-match")) {
        copy_value(c->copy_if_match, sizeof c->copy_if_match, value);
    } else if (IS("x-amz-metadata-directive")) {
        c->replace_meta = !strcasecmp(value, "REPLACE");
    } else if (IS("x-amz-checksum-crc32c")) {
        copy_value(c->crc_sent, sizeof c->crc_sent, value);
    } else if (IS("x-amz-checksum-mode")) {
        c->want_crc = true;
    } else if (IS("content-md5")) {
        copy_value(c->md5, sizeof c->md5, value);
    } else if (IS("x-amz-decoded-content-length")) {
        c->decoded = strtoull(value, NULL, 10);
        c->aws_chunked = true;
    } else if (IS("expect")) {
        c->expect = true;
    } else if (IS("connection")) {
        c->closing = !strncasecmp(value, "close", 5);
    }
}

static bool parse(Conn *c, char *at, size_t n)
{
    char *end = at + n, *line_end = memmem(at, n, "\r\n", 2);
    *line_end = 0;
    char *target = strchr(at, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version)
        return false;
    *target++ = 0;
    *version = 0;
    copy_value(c->method, sizeof c->method, at);
    char *query = strchr(target, '?');
    if (query)
        *query++ = 0;
    copy_value(c->query, sizeof c->query, query ? query : "");
    copy_value(c->path, sizeof c->path, target);
    url_unescape(c->path);

    c->head_only = !strcmp(c->method, "HEAD");
    c->length = c->decoded = c->got = c->size = c->chunk_left = 0;
    c->crc = 0;
    c->expect = c->closing = c->aws_chunked = c->want_crc = c->replace_meta = false;
    *c->copy_source = *c->copy_if_match = *c->range = *c->md5 = *c->crc_sent = *c->if_match = *c->if_none_match = 0;
    c->chunk_state = CHUNK_SIZE;
    c->line.length = c->out.length = c->out_sent = 0;
    free(c->meta);
    c->meta = NULL;

    Text meta = {0};
    for (at = line_end + 2; at < end - 2; at = line_end + 2) {
        line_end = memmem(at, end - at, "\r\n", 2);
        *line_end = 0;
        char *colon = strchr(at, ':');
        if (!colon)
            continue;
        char *value = colon + 1;
        while (*value == ' ')
            value++;
        header(c, &meta, at, colon - at, value);
    }
    c->meta = meta.at;
    uint64_t body = c->aws_chunked ? c->decoded : c->length;
    if (c->length && body <= settings.keep)
        c->body = blob_new(body);
    return true;
}

/* ---- its body ---- */

static void body_bytes(Conn *c, const char *from, size_t n)
{
    if (c->body && from != c->body->bytes + c->size)
        memcpy(c->body->bytes + c->size, from, n);
    if (settings.checksums)
        c->crc = crc32c(c->crc, from, n);
    c->size += n;
}

/* A line of chunk framing, or of the trailer, is whole. */
static bool chunk_line(Conn *c)
{
    char *line = c->line.at;
    if (c->line.length && line[c->line.length - 1] == '\r')
        line[--c->line.length] = 0;
    if (c->chunk_state == CHUNK_SIZE) {
        c->chunk_left = strtoull(line, NULL, 16);
        c->chunk_state = c->chunk_left ? CHUNK_DATA : TRAILER;
        if (c->size + c->chunk_left > c->decoded)
            return false;
    } else if (c->chunk_state == CHUNK_END) {
        c->chunk_state = CHUNK_SIZE;
    } else if (!strncasecmp(line, "x-amz-checksum-crc32c:", 22)) {
        const char *value = line + 22;
        while (*value == ' ')
            value++;
        copy_value(c->crc_sent, sizeof c->crc_sent, value);
    }
    c->line.length = 0;
    return true;
}

static bool chunked_bytes(Conn *c, const char *from, size_t n)
{
    while (n) {
        if (c->chunk_state == CHUNK_DATA) {
            size_t step = c->chunk_left < n ? c->chunk_left : n;
            body_bytes(c, from, step);
            from += step;
            n -= step;
            if (!(c->chunk_left -= step))
                c->chunk_state = CHUNK_END;
            continue;
        }
        const char *stop = memchr(from, '\n', n);
        size_t step = stop ? (size_t)(stop - from) : n;
        text_add(&c->line, from, step);
        from += step + !!stop;
        n -= step + !!stop;
        if (c->line.length > 4096 || (stop && !chunk_line(c)))
            return false;
    }
    return true;
}

static bool arrived(Conn *c, const char *from, size_t n)
{
    c->got += n;
    if (c->aws_chunked)
        return chunked_bytes(c, from, n);
    body_bytes(c, from, n);
    return true;
}

/* ---- the turn of a connection ---- */

static ssize_t read_head(Conn *c) /* > 0: a whole request head is parsed */
{
    for (;;) {
        char *end = c->in.length >= 4 ? memmem(c->in.at, c->in.length, "\r\n\r\n", 4) : NULL;
        if (end) {
            size_t n = end + 4 - c->in.at;
            if (!parse(c, c->in.at, n))
                return BROKEN;
            size_t rest = c->in.length - n, body = rest < c->length ? rest : c->length;
            if (body && !arrived(c, c->in.at + n, body))
                return BROKEN;
            memmove(c->in.at, c->in.at + n + body, rest - body);
            c->in.length = rest - body;
            if (c->expect && c->got < c->length)
                return give(c, "HTTP/1.1 100 Continue\r\n\r\n", 25, false);
            return 1;
        }
        if (c->in.length > 1 << 20)
            return BROKEN;
        text_need(&c->in, READ_STEP);
        ssize_t n = take(c, c->in.at + c->in.length, c->in.room - c->in.length - 1);
        if (n <= 0)
            return n;
        c->in.length += n;
    }
}

static ssize_t read_body(Conn *c) /* > 0: the body is whole */
{
    while (c->got < c->length) {
        uint64_t left = c->length - c->got;
        bool direct = c->body && !c->aws_chunked;
        char *to = direct ? c->body->bytes + c->size : dropped;
        ssize_t n = take(c, to, direct || left < DROP_STEP ? left : DROP_STEP);
        if (n <= 0)
            return n;
        if (!arrived(c, to, n))
            return BROKEN;
    }
    return 1;
}

static ssize_t write_reply(Conn *c) /* > 0: all is sent */
{
    while (c->out_sent < c->out.length) {
        ssize_t n = give(c, c->out.at + c->out_sent, c->out.length - c->out_sent, c->big_left > 0);
        if (n < 0)
            return n;
        c->out_sent += n;
    }
    while (c->big_left) {
        uint64_t step = c->big_left < SEND_STEP ? c->big_left : SEND_STEP;
        const char *from = pattern + c->big_at % PATTERN;
        if (c->big)
            from = c->big->bytes + c->big_at;
        else if (step > PATTERN - c->big_at % PATTERN)
            step = PATTERN - c->big_at % PATTERN;
        ssize_t n = give(c, from, step, false);
        if (n < 0)
            return n;
        c->big_at += n;
        c->big_left -= n;
    }
    blob_drop(c->big);
    c->big = NULL;
    return 1;
}

static void delay(Conn *c)
{
    c->due = now_us() + settings.latency_us;
    c->queued = NULL;
    if (queue_last)
        queue_last->queued = c;
    else
        queue_first = c;
    queue_last = c;
    watch(c, 0);
}

void conn_serve(Conn *c, uint32_t events)
{
    if (c->due) { /* its reply waits: only a hang-up is of interest */
        if (events & (EPOLLHUP | EPOLLERR))
            conn_drop(c);
        return;
    }
    for (;;) {
        ssize_t done = 1;
        if (c->state == READ_HEAD) {
            if ((done = read_head(c)) > 0)
                c->state = READ_BODY;
        }
        if (done > 0 && c->state == READ_BODY) {
            if ((done = read_body(c)) > 0) {
                handle(c);
                blob_drop(c->body);
                c->body = NULL;
                c->state = WRITE;
                if (settings.latency_us) {
                    delay(c);
                    return;
                }
            }
        }
        if (done > 0 && c->state == WRITE) {
            if ((done = write_reply(c)) > 0) {
                if (c->closing)
                    done = CLOSED;
                else if (events & EPOLLOUT)
                    watch(c, EPOLLIN);
                events = 0;
                c->state = READ_HEAD;
                /* Nothing more here yet: saves the call that would only say so. */
                if (done > 0 && !c->in.length && !(c->ssl && SSL_has_pending(c->ssl)))
                    return;
            } else if (done == LATER) {
                watch(c, EPOLLOUT);
            }
        }
        if (done == CLOSED || done == BROKEN)
            conn_drop(c);
        if (done <= 0)
            return;
    }
}

int conn_wait_ms(void)
{
    if (!queue_first)
        return -1;
    int64_t left = (int64_t)(queue_first->due - now_us());
    return left <= 0 ? 0 : (int)((left + 999) / 1000);
}

void conn_release_due(void)
{
    while (queue_first && now_us() >= queue_first->due) {
        Conn *c = queue_first;
        queue_first = c->queued;
        if (!queue_first)
            queue_last = NULL;
        c->due = 0;
        if (c->fd < 0) {
            conn_drop(c);
        } else {
            watch(c, EPOLLIN);
            conn_serve(c, EPOLLOUT);
        }
    }
}
