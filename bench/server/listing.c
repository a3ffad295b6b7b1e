/* ListObjects and ListObjectsV2, over stored and over generated keys. */
#include "lows3.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    bool v2, url;
    int most;
    char prefix[PATH_ROOM], delimiter[16], after[PATH_ROOM];
} Query;

static void read_query(const char *text, Query *q)
{
    char value[32];
    q->v2 = query_get(text, "list-type", value, sizeof value) && *value == '2';
    q->url = query_get(text, "encoding-type", value, sizeof value) && !strcmp(value, "url");
    q->most = query_get(text, "max-keys", value, sizeof value) && *value ? atoi(value) : 1000;
    if (q->most > 1000)
        q->most = 1000;
    query_get(text, "prefix", q->prefix, sizeof q->prefix);
    query_get(text, "delimiter", q->delimiter, sizeof q->delimiter);
    if (!q->v2)
        query_get(text, "marker", q->after, sizeof q->after);
    else if (!query_get(text, "continuation-token", q->after, sizeof q->after) || !*q->after)
        query_get(text, "start-after", q->after, sizeof q->after);
}

static void text_key(Text *t, const Query *q, const char *key, size_t n)
{
    if (q->url)
        text_url(t, key, n);
    else
        text_xml(t, key, n);
}

static void element(Text *t, const char *name, const Query *q, const char *value)
{
    text_format(t, "<%s>", name);
    text_key(t, q, value, strlen(value));
    text_format(t, "</%s>", name);
}

/* The place behind all keys that start with prefix. */
static size_t behind(const Keys *keys, const char *prefix)
{
    char next[PATH_ROOM];
    size_t n = strlen(prefix);
    memcpy(next, prefix, n + 1);
    while (n && (unsigned char)next[n - 1] == 0xff)
        next[--n] = 0;
    if (n)
        next[n - 1]++;
    return keys_from(keys, next);
}

static void text_row(Text *t, const Query *q, const Row *row)
{
    text_const(t, "<Contents><Key>");
    text_key(t, q, row->key, strlen(row->key));
    text_const(t, "</Key><LastModified>");
    text_iso(t, row->modified);
    text_const(t, "</LastModified><ETag>&quot;");
    text_str(t, row->etag);
    text_const(t, "&quot;</ETag><Size>");
    text_number(t, row->size, 1);
    text_str(t, "</Size><StorageClass>STANDARD</StorageClass></Contents>");
}

void list_objects(Conn *c, const char *bucket)
{
    static Text t;
    static Query query;
    static char last[PATH_ROOM];
    Query *q = &query;
    Keys keys = {bucket, generated_bucket(bucket)};
    count(OP_LIST);
    read_query(c->query, q);
    keys_refresh();
    t.length = 0;
    text_str(&t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    text_format(&t, "<Name>%s</Name>", bucket);
    element(&t, "Prefix", q, q->prefix);
    text_format(&t, "<MaxKeys>%d</MaxKeys>", q->most);
    if (*q->delimiter)
        element(&t, "Delimiter", q, q->delimiter);
    if (q->url)
        text_str(&t, "<EncodingType>url</EncodingType>");

    size_t prefix = strlen(q->prefix), delimiter = strlen(q->delimiter), after = strlen(q->after);
    bool past_directory = delimiter && after >= delimiter && after > prefix &&
                          !strcmp(q->after + after - delimiter, q->delimiter);
    size_t place = past_directory                    ? behind(&keys, q->after)
                   : strcmp(q->after, q->prefix) > 0 ? keys_from(&keys, q->after)
                                                     : keys_from(&keys, q->prefix);
    int n = 0;
    bool more = false;
    Row row;
    while (keys_at(&keys, place, &row)) {
        if (!row.key || (after && strcmp(row.key, q->after) <= 0)) {
            place++;
            continue;
        }
        if (strncmp(row.key, q->prefix, prefix) != 0)
            break;
        if (n == q->most) {
            more = n > 0;
            break;
        }
        n++;
        const char *stop = delimiter ? strstr(row.key + prefix, q->delimiter) : NULL;
        if (!stop) {
            text_row(&t, q, &row);
            strcpy(last, row.key);
            place++;
            continue;
        }
        size_t length = stop + delimiter - row.key;
        memcpy(last, row.key, length);
        last[length] = 0;
        text_str(&t, "<CommonPrefixes>");
        element(&t, "Prefix", q, last);
        text_str(&t, "</CommonPrefixes>");
        place = behind(&keys, last);
    }
    text_format(&t, "<KeyCount>%d</KeyCount><IsTruncated>%s</IsTruncated>", n, more ? "true" : "false");
    if (more && q->v2) { /* a token is opaque: never encoded as a key is */
        text_str(&t, "<NextContinuationToken>");
        text_xml(&t, last, strlen(last));
        text_str(&t, "</NextContinuationToken>");
    } else if (more) {
        element(&t, "NextMarker", q, last);
    }
    text_str(&t, "</ListBucketResult>");
    reply_xml(c, &t);
}
