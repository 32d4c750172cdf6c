#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Loops in vectors that not every processor of an architecture has: Swift compiles a function for the architecture's oldest one only.

#ifdef __x86_64__

typedef uint32_t sluice_vector __attribute__((vector_size(32), aligned(1)));

static inline bool sluice_has_avx2(void) { return __builtin_cpu_supports("avx2"); }

/// The key for what follows after `count` bytes.
static inline uint32_t sluice_turned_key(uint32_t key, size_t count) {
  unsigned bits = (unsigned)(count & 3) * 8;
  return key >> bits | key << ((32 - bits) & 31);
}

/// Writes `count` bytes of `source`, 64 or more, to `target`, xored with the key. The two are the same or don't overlap; no alignment is asked for, but
/// what is written in the middle is aligned. Only where there is AVX2.
__attribute__((target("avx2"), noinline, unused))
static void sluice_mask_avx2(uint8_t *target, const uint8_t *source, size_t count, uint32_t key) {
  const size_t size = sizeof(sluice_vector);
  size_t last = count - size, offset = -(uintptr_t)target & (size - 1);
  // Read before anything is written, as they overlap what is in between.
  sluice_vector head = *(const sluice_vector *)source ^ key;
  sluice_vector tail = *(const sluice_vector *)(source + last) ^ sluice_turned_key(key, last);
  uint32_t turned = sluice_turned_key(key, offset);
  for (; offset + 4 * size <= last; offset += 4 * size) {
    const sluice_vector *from = (const sluice_vector *)(source + offset);
    sluice_vector *to = (sluice_vector *)(target + offset);
    sluice_vector first = from[0] ^ turned, second = from[1] ^ turned, third = from[2] ^ turned, fourth = from[3] ^ turned;
    to[0] = first;
    to[1] = second;
    to[2] = third;
    to[3] = fourth;
  }
  for (; offset < last; offset += size)
    *(sluice_vector *)(target + offset) = *(const sluice_vector *)(source + offset) ^ turned;
  *(sluice_vector *)target = head;
  *(sluice_vector *)(target + last) = tail;
}

#endif
