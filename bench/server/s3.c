/* What a request means: buckets and single objects. Uploads are in multipart.c, listings in listing.c. */
#include "lows3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- objects ---- */

static bool find_object(const char *path, Object *room, Object **found)
{
    const char *slash = strchr(path, '/');
    *found = object_find(path);
    if (*found || !slash || slash - path > 20)
        return *found;
    char bucket[24];
    snprintf(bucket, sizeof bucket, "%.*s", (int)(slash - path), path);
    int generated = generated_bucket(bucket);
    if (generated && generated_object(generated, slash + 1, room))
        *found = room;
    return *found;
}

bool copy_source_object(Conn *c, Object *room, Object **found)
{
    char *version = strstr(c->copy_source, "?versionId=");
    if (version)
        *version = 0;
    if (!find_object(c->copy_source + (*c->copy_source == '/'), room, found)) {
        reply_error(c, "404 Not Found", "NoSuchKey");
        return false;
    }
    if (*c->copy_if_match && !same_etag(c->copy_if_match, (*found)->etag)) {
        reply_error(c, "412 Precondition Failed", "PreconditionFailed");
        return false;
    }
    return true;
}

static void put_copy(Conn *c, const char *path)
{
    Object room, *source;
    count(OP_COPY);
    if (!copy_source_object(c, &room, &source))
        return;
    Blob *blob = blob_ref(source->blob);
    char *meta = c->replace_meta ? c->meta : source->meta ? strdup(source->meta) : NULL;
    if (c->replace_meta)
        c->meta = NULL;
    uint64_t size = source->size;
    uint32_t crc = source->crc;
    char etag[ETAG_ROOM];
    memcpy(etag, source->etag, sizeof etag);
    Object *o = object_put(path); /* may be the source itself: all that is needed of it is taken above */
    o->blob = blob;
    o->meta = meta;
    o->size = size;
    o->crc = crc;
    o->modified = time(NULL);
    memcpy(o->etag, etag, sizeof etag);
    Text t = {0};
    text_format(&t, "%s<CopyObjectResult><ETag>&quot;%s&quot;</ETag><LastModified>", XML_START, etag);
    text_iso(&t, o->modified);
    text_str(&t, "</LastModified>");
    if (settings.checksums) {
        char b64[12];
        base64_u32(crc, b64);
        text_format(&t, "<ChecksumCRC32C>%s</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>", b64);
    }
    text_str(&t, "</CopyObjectResult>");
    reply_xml(c, &t);
    free(t.at);
}

static void put_object(Conn *c, const char *path)
{
    count(OP_PUT);
    if (!body_is_good(c))
        return;
    if (*c->if_none_match == '*' && object_find(path)) {
        reply_error(c, "412 Precondition Failed", "PreconditionFailed");
        return;
    }
    char headers[160];
    Object *o = object_put(path);
    body_etag(c, o->etag);
    o->size = c->size;
    o->crc = c->crc;
    o->blob = c->body ? c->body : c->size ? NULL : blob_new(0);
    c->body = NULL;
    o->meta = c->meta;
    c->meta = NULL;
    o->modified = time(NULL);
    int n = snprintf(headers, sizeof headers, "ETag: \"%s\"\r\n", o->etag);
    if (settings.checksums) {
        char b64[12];
        base64_u32(o->crc, b64);
        snprintf(headers + n, sizeof headers - n, "x-amz-checksum-crc32c: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", b64);
    }
    reply_head(c, "200 OK", 0, headers);
}

static void get_object(Conn *c, const char *path)
{
    static Text headers;
    Object room, *o;
    char date[64], b64[12];
    count(c->head_only ? OP_HEAD : OP_GET);
    if (!find_object(path, &room, &o)) {
        reply_error(c, "404 Not Found", "NoSuchKey");
        return;
    }
    if (*c->if_match && !same_etag(c->if_match, o->etag)) {
        reply_error(c, "412 Precondition Failed", "PreconditionFailed");
        return;
    }
    if (*c->if_none_match && same_etag(c->if_none_match, o->etag)) {
        reply_head(c, "304 Not Modified", 0, "");
        return;
    }
    uint64_t from = 0, to = o->size;
    bool ranged = *c->range && o->size;
    if (ranged && !parse_range(c->range, o->size, &from, &to)) {
        reply_error(c, "416 Range Not Satisfiable", "InvalidRange");
        return;
    }
    headers.length = 0;
    text_str(&headers, "Accept-Ranges: bytes\r\nETag: \"");
    text_str(&headers, o->etag);
    text_str(&headers, "\"\r\nLast-Modified: ");
    text_str(&headers, http_date(o->modified, date));
    text_add(&headers, "\r\n", 2);
    if (ranged)
        text_format(&headers, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)from,
                    (unsigned long long)to - 1, (unsigned long long)o->size);
    if (settings.checksums && c->want_crc && to - from == o->size) {
        base64_u32(o->crc, b64);
        text_format(&headers, "x-amz-checksum-crc32c: %s\r\nx-amz-checksum-type: FULL_OBJECT\r\n", b64);
    }
    if (o->meta)
        text_str(&headers, o->meta);
    if (!o->meta || !strstr(o->meta, "Content-Type:"))
        text_str(&headers, "Content-Type: application/octet-stream\r\n");
    reply_head(c, ranged ? "206 Partial Content" : "200 OK", to - from, headers.at);
    if (c->head_only)
        return;
    if (o->blob && to - from <= INLINE_BODY) {
        text_add(&c->out, o->blob->bytes + from, to - from);
    } else {
        c->big = blob_ref(o->blob);
        c->big_at = from;
        c->big_left = to - from;
    }
}

static void object_request(Conn *c, const char *path, const char *bucket, const char *key)
{
    if (query_get(c->query, "uploadId", NULL, 0) || query_get(c->query, "uploads", NULL, 0)) {
        multipart(c, bucket, key);
        return;
    }
    bool tagging = query_get(c->query, "tagging", NULL, 0);
    if (tagging || query_get(c->query, "acl", NULL, 0)) {
        count(OP_OTHER);
        if (*c->method == 'G' && tagging)
            reply_fixed(c, "<?xml version=\"1.0\"?><Tagging><TagSet></TagSet></Tagging>");
        else
            reply_head(c, "200 OK", 0, "");
    } else if (!strcmp(c->method, "PUT")) {
        if (bucket_find(bucket) < 0)
            reply_error(c, "404 Not Found", "NoSuchBucket");
        else if (*c->copy_source)
            put_copy(c, path);
        else
            put_object(c, path);
    } else if (!strcmp(c->method, "DELETE")) {
        count(OP_DELETE);
        object_delete(path);
        reply_head(c, "204 No Content", 0, "");
    } else if (c->head_only || !strcmp(c->method, "GET")) {
        get_object(c, path);
    } else {
        reply_error(c, "405 Method Not Allowed", "MethodNotAllowed");
    }
}

/* ---- buckets ---- */

static void list_buckets(Conn *c)
{
    Text t = {0};
    count(OP_OTHER);
    text_format(&t, "%s<ListAllMyBucketsResult><Owner><ID>x</ID></Owner><Buckets>", XML_START);
    for (int i = 0; i < BUCKETS; i++)
        if (bucket_name(i))
            text_format(&t, "<Bucket><Name>%s</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>",
                        bucket_name(i));
    text_str(&t, "</Buckets></ListAllMyBucketsResult>");
    reply_xml(c, &t);
    free(t.at);
}

static void delete_many(Conn *c, const char *bucket)
{
    Text t = {0};
    char path[PATH_ROOM];
    const char *key;
    size_t n;
    count(OP_DELETE);
    if (!c->body || !body_is_good(c)) {
        if (!c->body)
            reply_error(c, "400 Bad Request", "MalformedXML");
        return;
    }
    const char *at = c->body->bytes, *end = at + c->size;
    bool quiet = memmem(at, c->size, "<Quiet>true</Quiet>", 19);
    text_format(&t, "%s<DeleteResult>", XML_START);
    while (xml_next(&at, end, "Key", &key, &n)) {
        int start = snprintf(path, sizeof path, "%s/", bucket);
        if (n >= sizeof path - start)
            continue;
        memcpy(path + start, key, n);
        path[start + xml_unescape(path + start, n)] = 0;
        object_delete(path);
        if (quiet)
            continue;
        text_str(&t, "<Deleted><Key>");
        text_add(&t, key, n); /* as it came, still escaped */
        text_str(&t, "</Key></Deleted>");
    }
    text_str(&t, "</DeleteResult>");
    reply_xml(c, &t);
    free(t.at);
}

static void bucket_request(Conn *c, const char *bucket)
{
    if (!strcmp(c->method, "PUT")) {
        count(OP_OTHER);
        if (!*c->query)
            bucket_add(bucket);
        reply_head(c, "200 OK", 0, "");
        return;
    }
    if (bucket_find(bucket) < 0) {
        reply_error(c, "404 Not Found", "NoSuchBucket");
        return;
    }
    if (!strcmp(c->method, "POST") && query_get(c->query, "delete", NULL, 0)) {
        delete_many(c, bucket);
        return;
    }
    if (*c->method == 'G' && query_get(c->query, "uploads", NULL, 0)) {
        list_uploads(c, bucket);
        return;
    }
    static const struct { const char *query, *answer; } fixed[] = {
        {"location", "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></LocationConstraint>"},
        {"versioning", "<VersioningConfiguration/>"},
        {"acl", "<AccessControlPolicy><Owner><ID>x</ID></Owner><AccessControlList/></AccessControlPolicy>"},
        {"object-lock", "<ObjectLockConfiguration/>"}};
    for (size_t i = 0; *c->query && i < sizeof fixed / sizeof *fixed; i++) {
        if (query_get(c->query, fixed[i].query, NULL, 0)) {
            count(OP_OTHER);
            reply_fixed(c, fixed[i].answer);
            return;
        }
    }
    if (*c->method == 'G') {
        list_objects(c, bucket);
        return;
    }
    count(OP_OTHER);
    if (c->head_only)
        reply_head(c, "200 OK", 0, "x-amz-bucket-region: us-east-1\r\n");
    else if (!strcmp(c->method, "DELETE"))
        bucket_delete(bucket), reply_head(c, "204 No Content", 0, "");
    else
        reply_error(c, "405 Method Not Allowed", "MethodNotAllowed");
}

void handle(Conn *c)
{
    const char *path = c->path + 1, *slash = strchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : strlen(path);
    char bucket[256];
    if (n >= sizeof bucket) {
        reply_error(c, "400 Bad Request", "InvalidBucketName");
        return;
    }
    memcpy(bucket, path, n);
    bucket[n] = 0;
    if (!n)
        list_buckets(c);
    else if (!strcmp(bucket, "_lows3"))
        stats_reply(c, *c->method == 'P');
    else if (!slash || !slash[1])
        bucket_request(c, bucket);
    else
        object_request(c, path, bucket, slash + 1);
}
