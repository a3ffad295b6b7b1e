/* Taking a request apart: its head, and its body with or without chunk framing. */
#include "lows3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

bool request_parse(Conn *c, char *at, size_t n)
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

bool request_body(Conn *c, const char *from, size_t n)
{
    c->got += n;
    if (c->aws_chunked)
        return chunked_bytes(c, from, n);
    body_bytes(c, from, n);
    return true;
}
