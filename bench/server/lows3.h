/* Shared types of lows3, the low-overhead in-memory S3 server of the benchmark. See lows3.c for what it is. */
#ifndef LOWS3_H
#define LOWS3_H

#define _GNU_SOURCE
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define XML_START "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

enum {
    PATH_ROOM = 4096,
    QUERY_ROOM = 8192,
    ETAG_ROOM = 64,
    BUCKETS = 256,
    PATTERN = 4 << 20, /* bytes after which a dropped body repeats itself */
    INLINE_BODY = 16384 /* a body up to this size is sent in one call with its head */
};

/* ---- growing text (text.c) ---- */

typedef struct {
    char *at;
    size_t length, room;
} Text;

void text_need(Text *t, size_t more);
void text_add(Text *t, const char *bytes, size_t n);
void text_str(Text *t, const char *s);
#define text_const(t, literal) text_add(t, literal, sizeof(literal) - 1)
void text_format(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_xml(Text *t, const char *s, size_t n);    /* with & < > " escaped */
void text_url(Text *t, const char *s, size_t n);    /* percent-encoded, as encoding-type=url asks */
void text_number(Text *t, uint64_t value, int width); /* decimal, zero-filled to width */
void text_iso(Text *t, time_t when);
const char *http_date(time_t when, char room[64]);
void url_unescape(char *s);
size_t xml_unescape(char *s, size_t n);
bool query_get(const char *query, const char *name, char *value, size_t room); /* value may be NULL */
bool xml_next(const char **at, const char *end, const char *tag, const char **value, size_t *n);

/* ---- checksums (checksum.c) ---- */

void crc32c_setup(void);
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);
uint32_t crc32c_combine(uint32_t first, uint32_t second, uint64_t second_length);
void base64_u32(uint32_t value, char out[12]);
bool base64_to_hex(const char *text, char *out, size_t bytes);
void md5_hex(const void *bytes, size_t n, char *out);

/* ---- objects (store.c) ---- */

typedef struct {
    int refs;
    char bytes[];
} Blob; /* a kept body; shared by copies of an object and by replies under way */

Blob *blob_new(size_t n);
Blob *blob_ref(Blob *b);
void blob_drop(Blob *b);

typedef struct Object {
    struct Object *next;
    char *key; /* "bucket/key" */
    uint32_t hash, crc;
    int key_length;
    bool dead; /* deleted, but still in the sorted index */
    uint64_t size;
    Blob *blob; /* NULL: dropped, reads back as the pattern */
    char *meta; /* header lines to give back */
    time_t modified;
    char etag[ETAG_ROOM];
} Object;

typedef struct Part {
    struct Part *next;
    int number;
    uint32_t crc;
    uint64_t size;
    Blob *blob;
    time_t modified;
    char etag[ETAG_ROOM];
} Part;

typedef struct Upload {
    struct Upload *next;
    char id[32];
    char *key, *meta;
    time_t started;
    Part *parts; /* by number */
} Upload;

void store_setup(void);
Object *object_find(const char *key);
Object *object_put(const char *key); /* a new or emptied object under that key */
bool object_delete(const char *key);
int bucket_find(const char *name);
void bucket_add(const char *name);
void bucket_delete(const char *name);
const char *bucket_name(int i); /* NULL: a free place */
Upload *upload_new(const char *key, char *meta);
Upload *upload_find(const char *id, const char *key);
Upload *upload_first(void);
Part *upload_part(Upload *u, int number, bool make);
void upload_drop(Upload *u);
uint64_t next_number(void);

extern char *pattern;
uint32_t pattern_crc(uint64_t offset, uint64_t n);

/* Sorted keys of one bucket, stored or generated. */
typedef struct {
    const char *bucket;
    int generated; /* 0: stored; 1..3: the bucket synthetic, synthetic2, synthetic3 */
} Keys;

typedef struct {
    const char *key; /* without the bucket; NULL: deleted, go on */
    uint64_t size;
    const char *etag;
    time_t modified;
} Row;

int generated_bucket(const char *name);
bool generated_object(int bucket, const char *key, Object *out); /* fills size, etag, crc, modified */
void keys_refresh(void); /* before a listing */
size_t keys_from(const Keys *k, const char *key); /* place of the first key >= key */
bool keys_at(const Keys *k, size_t place, Row *row); /* false: behind the last one */

/* ---- connections (conn.c) ---- */

typedef enum { READ_HEAD, READ_BODY, WAIT, WRITE } State;
typedef enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER } ChunkState;

typedef struct Conn {
    int fd;
    SSL *ssl;
    State state;
    Text in;

    /* the request */
    char method[12], path[PATH_ROOM], query[QUERY_ROOM];
    char copy_source[PATH_ROOM], copy_if_match[ETAG_ROOM + 8], range[64], md5[64], crc_sent[16];
    char if_match[ETAG_ROOM + 8], if_none_match[ETAG_ROOM + 8];
    char *meta;
    bool head_only, expect, closing, aws_chunked, want_crc, replace_meta;
    uint64_t length, decoded; /* bytes on the wire; bytes without chunk framing */

    /* its body */
    uint64_t got, size; /* wire bytes so far; body bytes so far */
    Blob *body;         /* NULL: dropped as it comes */
    uint32_t crc;
    ChunkState chunk_state;
    uint64_t chunk_left;
    Text line;

    /* the reply */
    Text out;
    size_t out_sent;
    Blob *big;            /* kept body being sent; NULL with big_left: the pattern */
    uint64_t big_at, big_left;
    uint64_t due;         /* us; not 0: waits in the delay queue */
    struct Conn *queued;
} Conn;

Conn *conn_new(int fd, SSL_CTX *tls);
void conn_serve(Conn *c, uint32_t events);
void conn_drop(Conn *c);
void conn_release_due(void);
int conn_wait_ms(void); /* until the next delayed reply; -1: none */

/* ---- requests (request.c, reply.c, s3.c, listing.c, multipart.c) ---- */

bool request_parse(Conn *c, char *head, size_t n);
bool request_body(Conn *c, const char *from, size_t n); /* n bytes of the body, as on the wire */

void handle(Conn *c);
void reply_head(Conn *c, const char *status, uint64_t length, const char *headers);
void reply_xml(Conn *c, const Text *body);
void reply_fixed(Conn *c, const char *body);
void reply_error(Conn *c, const char *status, const char *code);
void list_objects(Conn *c, const char *bucket);
void multipart(Conn *c, const char *bucket, const char *key);
void list_uploads(Conn *c, const char *bucket);
bool body_is_good(Conn *c); /* false: a checksum was wrong and the error reply is out */
void body_etag(Conn *c, char etag[ETAG_ROOM]);
bool copy_source_object(Conn *c, Object *room, Object **found);
bool same_etag(const char *asked, const char *etag);
bool parse_range(const char *range, uint64_t size, uint64_t *from, uint64_t *to); /* to is exclusive */

/* ---- options and counters (lows3.c) ---- */

typedef struct {
    int port, epoll;
    uint64_t keep, latency_us, synthetic, time; /* time: LastModified of generated keys */
    bool checksums, log_first;
} Settings;

extern Settings settings;

typedef enum {
    OP_LIST, OP_HEAD, OP_GET, OP_PUT, OP_COPY, OP_DELETE, OP_CREATE, OP_PART, OP_PART_COPY, OP_COMPLETE,
    OP_ABORT, OP_LIST_PARTS, OP_LIST_UPLOADS, OP_OTHER, OPS
} Operation;

void count(Operation op);
void count_error(void);
void stats_reply(Conn *c, bool reset);
uint64_t now_us(void);

#endif
