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

#endif
