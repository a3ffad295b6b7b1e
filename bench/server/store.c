/* What the server holds: objects in a hash table and a sorted index, uploads, buckets, and the generated buckets. */
#include "lows3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *pattern;

static Object **table;
static size_t table_room = 1 << 16, objects;
static Object **sorted, **fresh; /* the index, and what has come since it was made */
static size_t sorted_count, sorted_room, fresh_count, fresh_room, dead_count;
static Upload *uploads;
static char *buckets[BUCKETS];
static uint64_t numbers;
static uint32_t pattern_once; /* crc of one whole pattern */

uint64_t next_number(void) { return ++numbers; }

void store_setup(void)
{
    table = calloc(table_room, sizeof *table);
    pattern = malloc(PATTERN);
    uint64_t x = 88172645463325252ull;
    for (size_t i = 0; i < PATTERN; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(pattern + i, &x, 8);
    }
    pattern_once = crc32c(0, pattern, PATTERN);
}

uint32_t pattern_crc(uint64_t offset, uint64_t n)
{
    uint32_t crc = 0;
    while (n) {
        uint64_t at = offset % PATTERN, step = PATTERN - at < n ? PATTERN - at : n;
        crc = step == PATTERN ? crc32c_combine(crc, pattern_once, PATTERN) : crc32c(crc, pattern + at, step);
        offset += step;
        n -= step;
    }
    return crc;
}

/* ---- blobs ---- */

Blob *blob_new(size_t n)
{
    Blob *b = malloc(sizeof *b + n + 1);
    b->refs = 1;
    return b;
}

Blob *blob_ref(Blob *b)
{
    if (b)
        b->refs++;
    return b;
}

void blob_drop(Blob *b)
{
    if (b && !--b->refs)
        free(b);
}

/* ---- objects ---- */

static uint32_t hash_of(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static Object **place_of(const char *key, uint32_t hash)
{
    Object **at = &table[hash & (table_room - 1)];
    while (*at && ((*at)->hash != hash || strcmp((*at)->key, key) != 0))
        at = &(*at)->next;
    return at;
}

static void grow_table(void)
{
    size_t room = table_room * 2;
    Object **bigger = calloc(room, sizeof *bigger);
    for (size_t i = 0; i < table_room; i++) {
        for (Object *o = table[i], *next; o; o = next) {
            next = o->next;
            o->next = bigger[o->hash & (room - 1)];
            bigger[o->hash & (room - 1)] = o;
        }
    }
    free(table);
    table = bigger;
    table_room = room;
}

Object *object_find(const char *key) { return *place_of(key, hash_of(key)); }

static void object_empty(Object *o)
{
    blob_drop(o->blob);
    free(o->meta);
    o->blob = NULL;
    o->meta = NULL;
}

Object *object_put(const char *key)
{
    uint32_t hash = hash_of(key);
    Object **at = place_of(key, hash), *o = *at;
    if (o) {
        object_empty(o);
        return o;
    }
    o = calloc(1, sizeof *o);
    o->key = strdup(key);
    o->key_length = strlen(key);
    o->hash = hash;
    *at = o;
    if (++objects > table_room)
        grow_table();
    if (fresh_count == fresh_room) {
        fresh_room = fresh_room * 2 + 1024;
        fresh = realloc(fresh, fresh_room * sizeof *fresh);
    }
    fresh[fresh_count++] = o;
    return o;
}

bool object_delete(const char *key)
{
    Object **at = place_of(key, hash_of(key)), *o = *at;
    if (!o)
        return false;
    *at = o->next;
    object_empty(o);
    o->dead = true; /* the index still points at it: it is freed when the index is next rewritten */
    objects--;
    dead_count++;
    return true;
}

/* ---- the sorted index ---- */

static int by_key(const void *a, const void *b)
{
    return strcmp((*(Object *const *)a)->key, (*(Object *const *)b)->key);
}

static size_t drop_dead(Object **list, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i]->dead) {
            free(list[i]->key);
            free(list[i]);
        } else {
            list[kept++] = list[i];
        }
    }
    return kept;
}

void keys_refresh(void)
{
    if (dead_count > 1000 && dead_count > sorted_count / 8) {
        sorted_count = drop_dead(sorted, sorted_count);
        fresh_count = drop_dead(fresh, fresh_count);
        dead_count = 0;
    }
    if (!fresh_count)
        return;
    qsort(fresh, fresh_count, sizeof *fresh, by_key);
    if (sorted_count + fresh_count > sorted_room) {
        sorted_room = (sorted_count + fresh_count) * 2;
        sorted = realloc(sorted, sorted_room * sizeof *sorted);
    }
    size_t i = sorted_count, j = fresh_count, to = sorted_count + fresh_count;
    sorted_count = to;
    while (j) { /* merged from the back: only what lies behind the new keys moves */
        if (i && strcmp(sorted[i - 1]->key, fresh[j - 1]->key) > 0)
            sorted[--to] = sorted[--i];
        else
            sorted[--to] = fresh[--j];
    }
    fresh_count = 0;
}

/* ---- generated buckets: keys d00000/f00000000.bin, a thousand in each directory ---- */

enum { GENERATED_KEY = 20, PER_DIRECTORY = 1000, GENERATED_SIZE = 100 };

int generated_bucket(const char *name)
{
    if (!settings.synthetic || strncmp(name, "synthetic", 9) != 0)
        return 0;
    return !name[9] ? 1 : !strcmp(name + 9, "2") ? 2 : !strcmp(name + 9, "3") ? 3 : 0;
}

static void digits(char *at, uint64_t value, int width)
{
    while (width--) {
        at[width] = '0' + value % 10;
        value /= 10;
    }
}

static void generated_key(uint64_t i, char out[GENERATED_KEY + 1])
{
    memcpy(out, "d00000/f00000000.bin", GENERATED_KEY + 1);
    digits(out + 1, i / PER_DIRECTORY, 5);
    digits(out + 8, i, 8);
}

static void generated_row(int bucket, uint64_t i, uint64_t *size, char etag[ETAG_ROOM])
{
    static const char hex[] = "0123456789abcdef";
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;
    *size = GENERATED_SIZE;
    if (bucket == 3) {
        x = ~x;
        *size = GENERATED_SIZE + 1 + i % 97;
    }
    for (int k = 0; k < 32; k++) {
        etag[k] = hex[x & 15];
        x = x >> 4 | x << 60;
        if (k == 15)
            x *= 0xff51afd7ed558ccdull;
    }
    etag[32] = 0;
}

bool generated_object(int bucket, const char *key, Object *out)
{
    char expected[GENERATED_KEY + 1];
    if (strlen(key) != GENERATED_KEY)
        return false;
    uint64_t i = strtoull(key + 8, NULL, 10);
    generated_key(i, expected);
    if (i >= settings.synthetic || strcmp(key, expected) != 0)
        return false;
    memset(out, 0, sizeof *out);
    generated_row(bucket, i, &out->size, out->etag);
    out->modified = settings.time;
    out->crc = settings.checksums ? pattern_crc(0, out->size) : 0;
    return true;
}

/* ---- one view of both ---- */

size_t keys_from(const Keys *k, const char *key)
{
    char full[256 + PATH_ROOM], generated[GENERATED_KEY + 1];
    snprintf(full, sizeof full, "%s/%s", k->bucket, key);
    size_t low = 0, high = k->generated ? settings.synthetic : sorted_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order;
        if (k->generated) {
            generated_key(middle, generated);
            order = strcmp(generated, key);
        } else {
            order = strcmp(sorted[middle]->key, full);
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool keys_at(const Keys *k, size_t place, Row *row)
{
    static char key[GENERATED_KEY + 1], etag[ETAG_ROOM];
    if (k->generated) {
        if (place >= settings.synthetic)
            return false;
        generated_key(place, key);
        generated_row(k->generated, place, &row->size, etag);
        row->key = key;
        row->etag = etag;
        row->modified = settings.time;
        return true;
    }
    if (place >= sorted_count)
        return false;
    const Object *o = sorted[place];
    size_t n = strlen(k->bucket);
    if (strncmp(o->key, k->bucket, n) != 0 || o->key[n] != '/')
        return false;
    row->key = o->dead ? NULL : o->key + n + 1;
    row->size = o->size;
    row->etag = o->etag;
    row->modified = o->modified;
    return true;
}

/* ---- buckets ---- */

int bucket_find(const char *name)
{
    if (generated_bucket(name))
        return BUCKETS;
    for (int i = 0; i < BUCKETS; i++)
        if (buckets[i] && !strcmp(buckets[i], name))
            return i;
    return -1;
}

void bucket_add(const char *name)
{
    for (int i = 0; i < BUCKETS && bucket_find(name) < 0; i++)
        if (!buckets[i])
            buckets[i] = strdup(name);
}

void bucket_delete(const char *name)
{
    int i = bucket_find(name);
    if (i >= 0 && i < BUCKETS) {
        free(buckets[i]);
        buckets[i] = NULL;
    }
}

const char *bucket_name(int i) { return buckets[i]; }

/* ---- uploads ---- */

Upload *upload_new(const char *key, char *meta)
{
    Upload *u = calloc(1, sizeof *u);
    snprintf(u->id, sizeof u->id, "u%llu", (unsigned long long)next_number());
    u->key = strdup(key);
    u->meta = meta;
    u->started = time(NULL);
    u->next = uploads;
    uploads = u;
    return u;
}

Upload *upload_find(const char *id, const char *key)
{
    Upload *u = uploads;
    while (u && (strcmp(u->id, id) != 0 || strcmp(u->key, key) != 0))
        u = u->next;
    return u;
}

Upload *upload_first(void) { return uploads; }

Part *upload_part(Upload *u, int number, bool make)
{
    Part **at = &u->parts;
    while (*at && (*at)->number < number)
        at = &(*at)->next;
    if (*at && (*at)->number == number)
        return *at;
    if (!make)
        return NULL;
    Part *p = calloc(1, sizeof *p);
    p->number = number;
    p->next = *at;
    *at = p;
    return p;
}

void upload_drop(Upload *u)
{
    Upload **at = &uploads;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    for (Part *p = u->parts, *next; p; p = next) {
        next = p->next;
        blob_drop(p->blob);
        free(p);
    }
    free(u->key);
    free(u->meta);
    free(u);
}
