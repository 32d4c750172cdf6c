#pragma once

#include <stdbool.h>

// Two functions of Swift's runtime that compiled code calls. The library's own ways to them, `withUnsafeCurrentTask` and `Task.isCancelled`,
// copy and count tasks, at a fifteenth of the instructions of an echoed message.

extern void *swift_task_getCurrent(void) __attribute__((swiftcall));
extern bool swift_task_isCancelled(void *task) __attribute__((swiftcall));

/// The task that runs on the calling thread, not counted; null if there is none.
static inline void *sluice_current_task(void) { return swift_task_getCurrent(); }

/// Whether a task that lives was cancelled.
static inline bool sluice_is_cancelled(void *task) { return swift_task_isCancelled(task); }
