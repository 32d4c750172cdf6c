#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __linux__
// What CoreFoundation calls to have the main dispatch queue run in an event loop of its own. libdispatch exports it and no header declares it: the
// names are looked up when the program starts, and are null where there is no such function. (Weak references rather than `dlsym`, which finds
// nothing in a program that libdispatch was linked into statically.)

extern int _dispatch_get_main_queue_handle_4CF(void) __attribute__((weak));
extern void _dispatch_main_queue_callback_4CF(void *ignored) __attribute__((weak));

/// Whether this libdispatch has both.
static inline bool sluice_has_main_queue_hooks(void) {
  return _dispatch_get_main_queue_handle_4CF && _dispatch_main_queue_callback_4CF;
}

static inline bool sluice_is_main_thread(void) { return syscall(SYS_gettid) == getpid(); }

/// What is readable while the main dispatch queue has something to run; -1 where the hooks are missing.
static inline int sluice_main_queue_descriptor(void) {
  return sluice_has_main_queue_hooks() ? _dispatch_get_main_queue_handle_4CF() : -1;
}

/// Runs what the main dispatch queue has. On the main thread.
static inline void sluice_run_main_queue(int descriptor) {
  uint64_t count;
  if (read(descriptor, &count, sizeof count) < 0 || !sluice_has_main_queue_hooks()) return;
  _dispatch_main_queue_callback_4CF(0);
}
#endif
