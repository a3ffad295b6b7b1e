/* CRC32C (by instruction where the processor has it, else by tables), its combination, base64, MD5. */
#include "lows3.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u

static uint32_t table[8][256];
static uint32_t (*update)(uint32_t, const unsigned char *, size_t);

static uint32_t by_table(uint32_t crc, const unsigned char *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = 0;
        for (int i = 0; i < 8; i++)
            crc ^= table[7 - i][word >> 8 * i & 255];
    }
    while (n--)
        crc = crc >> 8 ^ table[0][(crc ^ *p++) & 255];
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

enum { LANE = 4096 };
static uint32_t shift_lane[4][256]; /* a crc moved over LANE zero bytes, one table for each of its bytes */

static inline uint32_t shifted(uint32_t crc)
{
    return shift_lane[0][crc & 255] ^ shift_lane[1][crc >> 8 & 255] ^ shift_lane[2][crc >> 16 & 255] ^
           shift_lane[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *p, size_t n)
{
    uint64_t a = crc, word;
    /* The instruction takes one word a cycle but answers after three: three lanes keep it busy. */
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            memcpy(&word, p + i, 8);
            a = _mm_crc32_u64(a, word);
            memcpy(&word, p + LANE + i, 8);
            b = _mm_crc32_u64(b, word);
            memcpy(&word, p + 2 * LANE + i, 8);
            c = _mm_crc32_u64(c, word);
        }
        a = shifted(shifted(a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        a = _mm_crc32_u64(a, word);
    }
    while (n--)
        a = _mm_crc32_u8(a, *p++);
    return a;
}
#endif

/* a * b modulo the polynomial, bits reflected */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b & 1 ? b >> 1 ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

/* x to the power of 8n: what n zero bytes do to a crc */
static uint32_t zeros(uint64_t n)
{
    uint32_t result = 1u << 31, square = 1u << 23; /* x^0 and x^8 */
    for (; n; n >>= 1) {
        if (n & 1)
            result = multiply(square, result);
        square = multiply(square, square);
    }
    return result;
}

void crc32c_setup(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        table[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
    update = by_table;
#if defined(__x86_64__)
    uint32_t over_lane = zeros(LANE);
    for (int k = 0; k < 4; k++)
        for (uint32_t i = 0; i < 256; i++)
            shift_lane[k][i] = multiply(over_lane, i << 8 * k);
    if (__builtin_cpu_supports("sse4.2"))
        update = by_instruction;
#endif
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n) { return ~update(~crc, bytes, n); }

uint32_t crc32c_combine(uint32_t first, uint32_t second, uint64_t second_length)
{
    return multiply(zeros(second_length), first) ^ second;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_u32(uint32_t value, char out[12])
{
    uint64_t bits = (uint64_t)value << 4; /* 32 bits of value and 4 of filling: six letters */
    for (int i = 0; i < 6; i++)
        out[i] = alphabet[bits >> (30 - 6 * i) & 63];
    strcpy(out + 6, "==");
}

bool base64_to_hex(const char *text, char *out, size_t bytes)
{
    unsigned value = 0;
    int bits = 0;
    size_t n = 0;
    for (; *text && *text != '=' && n < bytes; text++) {
        const char *letter = strchr(alphabet, *text);
        if (!letter)
            return false;
        value = value << 6 | (unsigned)(letter - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            sprintf(out + 2 * n++, "%02x", value >> bits & 255);
        }
    }
    return n == bytes;
}

void md5_hex(const void *bytes, size_t n, char *out)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[16];
    unsigned length;
    EVP_Digest(bytes, n, digest, &length, EVP_md5(), NULL);
    for (int i = 0; i < 16; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    out[32] = 0;
}
