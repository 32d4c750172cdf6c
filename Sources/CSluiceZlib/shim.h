#ifndef SLUICE_ZLIB_H
#define SLUICE_ZLIB_H

#include <string.h>
#include <zlib.h>

// zlib's initialisers are macros, which Swift does not see.

static inline int sluice_deflate_init(z_stream *stream, int level, int window_bits, int mem_level, int strategy) {
  memset(stream, 0, sizeof *stream);
  return deflateInit2(stream, level, Z_DEFLATED, window_bits, mem_level, strategy);
}

static inline int sluice_inflate_init(z_stream *stream, int window_bits) {
  memset(stream, 0, sizeof *stream);
  return inflateInit2(stream, window_bits);
}

// The checksums of two pieces become that of both, by a number that the length of the second is turned into: once where zlib can (1.2.12).
static inline uLong sluice_crc_shift(long length) {
#if ZLIB_VERNUM >= 0x12c0
  return crc32_combine_gen(length);
#else
  return length;
#endif
}

static inline uLong sluice_crc_combine(uLong first, uLong second, uLong shift) {
#if ZLIB_VERNUM >= 0x12c0
  return crc32_combine_op(first, second, shift);
#else
  return crc32_combine(first, second, shift);
#endif
}

#endif
