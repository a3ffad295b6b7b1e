/* Replies, and the checks of what a request carries. */
#include "lows3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- replies ---- */

void reply_head(Conn *c, const char *status, uint64_t length, const char *headers)
{
    static char date[64];
    static time_t dated;
    time_t now = time(NULL);
    if (now != dated) {
        dated = now;
        http_date(now, date);
    }
    Text *out = &c->out;
    text_str(out, "HTTP/1.1 ");
    text_str(out, status);
    if (strcmp(status, "204 No Content") != 0) {
        text_str(out, "\r\nContent-Length: ");
        text_number(out, length, 1);
    }
    text_str(out, "\r\nServer: lows3\r\nx-amz-request-id: 1\r\nDate: ");
    text_str(out, date);
    text_str(out, c->closing ? "\r\nConnection: close\r\n" : "\r\n");
    text_str(out, headers);
    text_add(out, "\r\n", 2);
}

void reply_xml(Conn *c, const Text *body)
{
    reply_head(c, "200 OK", body->length, "Content-Type: application/xml\r\n");
    if (!c->head_only)
        text_add(&c->out, body->at, body->length);
}

void reply_fixed(Conn *c, const char *body)
{
    Text t = {(char *)body, strlen(body), 0};
    reply_xml(c, &t);
}

void reply_error(Conn *c, const char *status, const char *code)
{
    char body[400];
    int n = snprintf(body, sizeof body, "%s<Error><Code>%s</Code><Message>%s</Message></Error>", XML_START, code, code);
    count_error();
    reply_head(c, status, n, "Content-Type: application/xml\r\n");
    if (!c->head_only)
        text_add(&c->out, body, n);
}

/* ---- what bodies are checked for ---- */

bool body_is_good(Conn *c)
{
    if (c->aws_chunked && c->size != c->decoded) {
        reply_error(c, "400 Bad Request", "IncompleteBody");
        return false;
    }
    if (!settings.checksums || !*c->crc_sent)
        return true;
    char mine[12];
    base64_u32(c->crc, mine);
    if (!strcmp(mine, c->crc_sent))
        return true;
    reply_error(c, "400 Bad Request", "BadDigest");
    return false;
}

/* The MD5 of a kept body, or what the client says it is; of a dropped body nothing that looks like an MD5. */
void body_etag(Conn *c, char etag[ETAG_ROOM])
{
    if (*c->md5 && base64_to_hex(c->md5, etag, 16))
        return;
    if (c->body || !c->size)
        md5_hex(c->body ? c->body->bytes : "", c->size, etag);
    else
        snprintf(etag, ETAG_ROOM, "dropped%llx", (unsigned long long)next_number());
}

bool same_etag(const char *asked, const char *etag)
{
    size_t n = strlen(etag);
    if (!strcmp(asked, "*"))
        return true;
    if (*asked == '"')
        asked++;
    return !strncmp(asked, etag, n) && (!asked[n] || asked[n] == '"');
}

bool parse_range(const char *range, uint64_t size, uint64_t *from, uint64_t *to)
{
    unsigned long long first, last;
    if (strncmp(range, "bytes=", 6) != 0)
        return false;
    range += 6;
    *from = 0;
    *to = size;
    if (*range == '-') {
        last = strtoull(range + 1, NULL, 10);
        *from = last < size ? size - last : 0;
        return last > 0;
    }
    int n = sscanf(range, "%llu-%llu", &first, &last);
    if (n < 1)
        return false;
    *from = first;
    if (n == 2 && last + 1 < size)
        *to = last + 1;
    return *from < *to;
}
