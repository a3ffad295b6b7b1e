/* Multipart uploads: create, parts, part copies, complete, abort, and their listings. */
#include "lows3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void text_crc(Text *t, uint32_t crc)
{
    char b64[12];
    if (!settings.checksums)
        return;
    base64_u32(crc, b64);
    text_format(t, "<ChecksumCRC32C>%s</ChecksumCRC32C>", b64);
}

static void create(Conn *c, const char *bucket, const char *key)
{
    Text t = {0};
    count(OP_CREATE);
    if (bucket_find(bucket) < 0) {
        reply_error(c, "404 Not Found", "NoSuchBucket");
        return;
    }
    Upload *u = upload_new(c->path + 1, c->meta);
    c->meta = NULL;
    text_format(&t, "%s<InitiateMultipartUploadResult><Bucket>%s</Bucket><Key>", XML_START, bucket);
    text_xml(&t, key, strlen(key));
    text_format(&t, "</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", u->id);
    reply_xml(c, &t);
    free(t.at);
}

static void put_part(Conn *c, Upload *u, int number)
{
    char headers[160];
    count(OP_PART);
    if (!body_is_good(c))
        return;
    Part *p = upload_part(u, number, true);
    blob_drop(p->blob);
    body_etag(c, p->etag);
    p->blob = c->body ? c->body : c->size ? NULL : blob_new(0);
    c->body = NULL;
    p->size = c->size;
    p->crc = c->crc;
    p->modified = time(NULL);
    int n = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", p->etag);
    if (settings.checksums) {
        char b64[12];
        base64_u32(p->crc, b64);
        snprintf(headers + n, sizeof headers - n, "x-amz-checksum-crc32c: %s\r\n", b64);
    }
    reply_head(c, "200 OK", 0, headers);
}

static void copy_part(Conn *c, Upload *u, int number)
{
    Object room, *source;
    count(OP_PART_COPY);
    if (!copy_source_object(c, &room, &source))
        return;
    uint64_t from = 0, to = source->size;
    if (*c->range && !parse_range(c->range, source->size, &from, &to)) {
        reply_error(c, "416 Range Not Satisfiable", "InvalidRange");
        return;
    }
    Part *p = upload_part(u, number, true);
    blob_drop(p->blob);
    p->blob = NULL;
    p->size = to - from;
    p->modified = time(NULL);
    if (source->blob) {
        p->blob = blob_new(p->size);
        memcpy(p->blob->bytes, source->blob->bytes + from, p->size);
    }
    if (settings.checksums)
        p->crc = p->blob ? crc32c(0, p->blob->bytes, p->size) : pattern_crc(from, p->size);
    snprintf(p->etag, sizeof p->etag, "dropped%llx", (unsigned long long)next_number());
    Text t = {0};
    text_format(&t, "%s<CopyPartResult><ETag>&quot;%s&quot;</ETag><LastModified>", XML_START, p->etag);
    text_iso(&t, p->modified);
    text_str(&t, "</LastModified>");
    text_crc(&t, p->crc);
    text_str(&t, "</CopyPartResult>");
    reply_xml(c, &t);
    free(t.at);
}

/* The parts that the client names, in its order, into chosen; how many, or -1: one of them is not there. */
static int chosen_parts(Conn *c, Upload *u, Part **chosen, int room)
{
    const char *at = c->body ? c->body->bytes : "", *end = at + (c->body ? c->size : 0), *value;
    size_t n;
    int count = 0, last = 0;
    Part *next = u->parts;
    while (xml_next(&at, end, "PartNumber", &value, &n)) {
        int number = atoi(value);
        while (next && next->number < number)
            next = next->next;
        if (!next || next->number != number || number <= last || count == room)
            return -1;
        chosen[count++] = next;
        last = number;
    }
    return count ? count : -1;
}

static void complete(Conn *c, Upload *u, const char *bucket, const char *key)
{
    static Part *chosen[10000];
    count(OP_COMPLETE);
    int n = chosen_parts(c, u, chosen, 10000);
    if (n < 0) {
        reply_error(c, "400 Bad Request", "InvalidPart");
        return;
    }
    uint64_t size = 0;
    uint32_t crc = 0;
    bool kept = true;
    Text etags = {0};
    for (int i = 0; i < n; i++) {
        if (settings.checksums)
            crc = i ? crc32c_combine(crc, chosen[i]->crc, chosen[i]->size) : chosen[i]->crc;
        size += chosen[i]->size;
        kept = kept && chosen[i]->blob;
        for (const char *e = chosen[i]->etag; e[0] && e[1]; e += 2) { /* the MD5 over the MD5s of the parts */
            char pair[3] = {e[0], e[1], 0}, byte = strtol(pair, NULL, 16);
            text_add(&etags, &byte, 1);
        }
    }
    char mine[12];
    base64_u32(crc, mine);
    if (settings.checksums && *c->crc_sent && strcmp(c->crc_sent, mine) != 0) {
        free(etags.at);
        reply_error(c, "400 Bad Request", "BadDigest");
        return;
    }
    Object *o = object_put(u->key);
    o->size = size;
    o->crc = crc;
    o->modified = time(NULL);
    o->meta = u->meta;
    u->meta = NULL;
    md5_hex(etags.at, etags.length, o->etag);
    snprintf(o->etag + 32, ETAG_ROOM - 32, "-%d", n);
    free(etags.at);
    if (kept && size <= settings.keep) {
        o->blob = blob_new(size);
        char *to = o->blob->bytes;
        for (int i = 0; i < n; to += chosen[i++]->size)
            memcpy(to, chosen[i]->blob->bytes, chosen[i]->size);
    }
    Text t = {0};
    text_format(&t, "%s<CompleteMultipartUploadResult><Location>/%s</Location><Bucket>%s</Bucket><Key>", XML_START,
                bucket, bucket);
    text_xml(&t, key, strlen(key));
    text_format(&t, "</Key><ETag>&quot;%s&quot;</ETag>", o->etag);
    text_crc(&t, crc);
    if (settings.checksums)
        text_str(&t, "<ChecksumType>FULL_OBJECT</ChecksumType>");
    text_str(&t, "</CompleteMultipartUploadResult>");
    reply_xml(c, &t);
    free(t.at);
    upload_drop(u);
}

static void list_parts(Conn *c, Upload *u, const char *bucket, const char *key)
{
    char value[32];
    count(OP_LIST_PARTS);
    int after = query_get(c->query, "part-number-marker", value, sizeof value) ? atoi(value) : 0;
    int most = query_get(c->query, "max-parts", value, sizeof value) ? atoi(value) : 1000, n = 0, last = after;
    bool more = false;
    Text t = {0};
    text_format(&t, "%s<ListPartsResult><Bucket>%s</Bucket><Key>", XML_START, bucket);
    text_xml(&t, key, strlen(key));
    text_format(&t, "</Key><UploadId>%s</UploadId><MaxParts>%d</MaxParts>", u->id, most);
    for (Part *p = u->parts; p; p = p->next) {
        if (p->number <= after)
            continue;
        if (n++ == most) {
            more = true;
            break;
        }
        last = p->number;
        text_format(&t, "<Part><PartNumber>%d</PartNumber><LastModified>", p->number);
        text_iso(&t, p->modified);
        text_format(&t, "</LastModified><ETag>&quot;%s&quot;</ETag><Size>%llu</Size>", p->etag,
                    (unsigned long long)p->size);
        text_crc(&t, p->crc);
        text_str(&t, "</Part>");
    }
    text_format(&t, "<NextPartNumberMarker>%d</NextPartNumberMarker><IsTruncated>%s</IsTruncated></ListPartsResult>",
                last, more ? "true" : "false");
    reply_xml(c, &t);
    free(t.at);
}

void multipart(Conn *c, const char *bucket, const char *key)
{
    char id[64], value[32];
    if (!query_get(c->query, "uploadId", id, sizeof id)) {
        if (!strcmp(c->method, "POST"))
            create(c, bucket, key);
        else
            reply_error(c, "400 Bad Request", "InvalidRequest");
        return;
    }
    Upload *u = upload_find(id, c->path + 1);
    if (!u) {
        reply_error(c, "404 Not Found", "NoSuchUpload");
    } else if (!strcmp(c->method, "PUT")) {
        query_get(c->query, "partNumber", value, sizeof value);
        int number = atoi(value);
        if (number < 1 || number > 10000)
            reply_error(c, "400 Bad Request", "InvalidArgument");
        else if (*c->copy_source)
            copy_part(c, u, number);
        else
            put_part(c, u, number);
    } else if (!strcmp(c->method, "POST")) {
        complete(c, u, bucket, key);
    } else if (!strcmp(c->method, "DELETE")) {
        count(OP_ABORT);
        upload_drop(u);
        reply_head(c, "204 No Content", 0, "");
    } else {
        list_parts(c, u, bucket, key);
    }
}

static int by_key_and_id(const void *a, const void *b)
{
    const Upload *x = *(Upload *const *)a, *y = *(Upload *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : strcmp(x->id, y->id);
}

void list_uploads(Conn *c, const char *bucket)
{
    char prefix[PATH_ROOM], after[PATH_ROOM], after_id[64], value[32], start[256 + PATH_ROOM];
    size_t all = 0, skip = strlen(bucket) + 1;
    count(OP_LIST_UPLOADS);
    query_get(c->query, "prefix", prefix, sizeof prefix);
    query_get(c->query, "key-marker", after, sizeof after);
    query_get(c->query, "upload-id-marker", after_id, sizeof after_id);
    int most = query_get(c->query, "max-uploads", value, sizeof value) ? atoi(value) : 1000, n = 0;
    snprintf(start, sizeof start, "%s/%s", bucket, prefix);
    for (Upload *u = upload_first(); u; u = u->next)
        all++;
    Upload **list = malloc((all + 1) * sizeof *list);
    all = 0;
    for (Upload *u = upload_first(); u; u = u->next)
        if (!strncmp(u->key, start, strlen(start)))
            list[all++] = u;
    qsort(list, all, sizeof *list, by_key_and_id);
    Text t = {0};
    text_format(&t, "%s<ListMultipartUploadsResult><Bucket>%s</Bucket>", XML_START, bucket);
    const Upload *last = NULL;
    bool more = false;
    for (size_t i = 0; i < all; i++) {
        const Upload *u = list[i];
        int order = strcmp(u->key + skip, after);
        if (*after && (order < 0 || (!order && (!*after_id || strcmp(u->id, after_id) <= 0))))
            continue;
        if (n++ == most) {
            more = true;
            break;
        }
        last = u;
        text_str(&t, "<Upload><Key>");
        text_xml(&t, u->key + skip, strlen(u->key + skip));
        text_format(&t, "</Key><UploadId>%s</UploadId><Initiated>", u->id);
        text_iso(&t, u->started);
        text_str(&t, "</Initiated></Upload>");
    }
    if (more && last) {
        text_str(&t, "<NextKeyMarker>");
        text_xml(&t, last->key + skip, strlen(last->key + skip));
        text_format(&t, "</NextKeyMarker><NextUploadIdMarker>%s</NextUploadIdMarker>", last->id);
    }
    text_format(&t, "<IsTruncated>%s</IsTruncated></ListMultipartUploadsResult>", more ? "true" : "false");
    reply_xml(c, &t);
    free(t.at);
    free(list);
}
