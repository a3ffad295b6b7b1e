/* One connection: bytes in and out, plain or by TLS, and its turn: head, body, answer, reply, perhaps late. */
#include "lows3.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
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

/* ---- the turn of a connection ---- */

static ssize_t read_head(Conn *c) /* > 0: a whole request head is parsed */
{
    for (;;) {
        char *end = c->in.length >= 4 ? memmem(c->in.at, c->in.length, "\r\n\r\n", 4) : NULL;
        if (end) {
            size_t n = end + 4 - c->in.at;
            if (!request_parse(c, c->in.at, n))
                return BROKEN;
            size_t rest = c->in.length - n, body = rest < c->length ? rest : c->length;
            if (body && !request_body(c, c->in.at + n, body))
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
        if (!request_body(c, to, n))
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
