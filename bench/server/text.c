/* Growing text, and the escapes of HTTP, URLs and XML. */
#include "lows3.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_need(Text *t, size_t more)
{
    if (t->length + more + 1 <= t->room)
        return;
    if (!t->room)
        t->room = 1024;
    while (t->length + more + 1 > t->room)
        t->room *= 2;
    t->at = realloc(t->at, t->room);
}

void text_add(Text *t, const char *bytes, size_t n)
{
    text_need(t, n);
    memcpy(t->at + t->length, bytes, n);
    t->length += n;
    t->at[t->length] = 0;
}

void text_str(Text *t, const char *s) { text_add(t, s, strlen(s)); }

void text_format(Text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_need(t, 512);
    int n = vsnprintf(t->at + t->length, t->room - t->length, format, args);
    va_end(args);
    if ((size_t)n >= t->room - t->length) {
        text_need(t, n);
        va_start(args, format);
        vsnprintf(t->at + t->length, t->room - t->length, format, args);
        va_end(args);
    }
    t->length += n;
}

static const char *xml_name(unsigned char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    default: return NULL;
    }
}

void text_xml(Text *t, const char *s, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = (unsigned char)s[i] <= '>' ? xml_name(s[i]) : NULL;
        if (!name)
            continue;
        text_add(t, s + from, i - from);
        text_str(t, name);
        from = i + 1;
    }
    text_add(t, s + from, n - from);
}

void text_url(Text *t, const char *s, size_t n)
{
    static const char hex[] = "0123456789ABCDEF";
    text_need(t, 3 * n);
    char *out = t->at + t->length;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = s[i];
        if (isalnum(c) || c == '/' || c == '-' || c == '_' || c == '.' || c == '~' || c == '*') {
            *out++ = c;
        } else {
            *out++ = '%';
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
        }
    }
    *out = 0;
    t->length = out - t->at;
}

void text_number(Text *t, uint64_t value, int width)
{
    char digits[24];
    int n = 0;
    do {
        digits[sizeof digits - ++n] = '0' + value % 10;
        value /= 10;
    } while (value || n < width);
    text_add(t, digits + sizeof digits - n, n);
}

void text_iso(Text *t, time_t when)
{
    static time_t cached = -1;
    static char text[32];
    if (when != cached) { /* neighbours in a listing mostly share their second */
        struct tm m;
        gmtime_r(&when, &m);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.000Z", &m);
        cached = when;
    }
    text_add(t, text, 24);
}

const char *http_date(time_t when, char room[64])
{
    struct tm m;
    gmtime_r(&when, &m);
    strftime(room, 64, "%a, %d %b %Y %H:%M:%S GMT", &m);
    return room;
}

void url_unescape(char *s)
{
    char *out = s;
    for (; *s; s++) {
        if (*s == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
            char pair[3] = {s[1], s[2], 0};
            *out++ = strtol(pair, NULL, 16);
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = 0;
}

size_t xml_unescape(char *s, size_t n)
{
    static const struct { const char *name; char c; } names[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char *out = s, *end = s + n;
    while (s < end) {
        bool known = false;
        if (*s == '&') {
            for (size_t i = 0; i < sizeof names / sizeof *names && !known; i++) {
                size_t length = strlen(names[i].name);
                if ((size_t)(end - s) >= length && !memcmp(s, names[i].name, length)) {
                    *out++ = names[i].c;
                    s += length;
                    known = true;
                }
            }
            if (!known && end - s > 3 && s[1] == '#') {
                char *stop;
                long code = s[2] == 'x' ? strtol(s + 3, &stop, 16) : strtol(s + 2, &stop, 10);
                if (*stop == ';' && code > 0 && code < 128) { /* above: clients send UTF-8 as it is */
                    *out++ = code;
                    s = stop + 1;
                    known = true;
                }
            }
        }
        if (!known)
            *out++ = *s++;
    }
    return out - (end - n);
}

bool query_get(const char *query, const char *name, char *value, size_t room)
{
    size_t length = strlen(name);
    if (value)
        *value = 0;
    while (*query) {
        const char *end = strchrnul(query, '&');
        if (!strncmp(query, name, length) && (query[length] == '=' || query + length == end)) {
            if (value) {
                const char *from = query[length] == '=' ? query + length + 1 : end;
                size_t n = end - from < (ptrdiff_t)room ? (size_t)(end - from) : room - 1;
                memcpy(value, from, n);
                value[n] = 0;
                for (char *p = value; *p; p++)
                    if (*p == '+')
                        *p = ' ';
                url_unescape(value);
            }
            return true;
        }
        query = *end ? end + 1 : end;
    }
    return false;
}

bool xml_next(const char **at, const char *end, const char *tag, const char **value, size_t *n)
{
    char open[64], close[64];
    int open_length = snprintf(open, sizeof open, "<%s>", tag);
    int close_length = snprintf(close, sizeof close, "</%s>", tag);
    const char *from = memmem(*at, end - *at, open, open_length);
    if (!from)
        return false;
    from += open_length;
    const char *to = memmem(from, end - from, close, close_length);
    if (!to)
        return false;
    *value = from;
    *n = to - from;
    *at = to + close_length;
    return true;
}
