#pragma once

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include "descriptors.h"

/// Makes a pseudoterminal with a window of so many columns and rows: its controlling end, which does not block and is not inherited, and its other end, a
/// terminal with echo and line editing that is not ours, whose name is put into `path`; or a negative errno.
static inline int sluice_open_pseudoterminal(
    int *terminal, char *path, unsigned long capacity, unsigned short columns, unsigned short rows) {
  int controller = posix_openpt(O_RDWR | O_NOCTTY), failure = 0;
  if (controller < 0) return -errno;
  fcntl(controller, F_SETFD, FD_CLOEXEC);
  struct winsize window = {.ws_row = rows, .ws_col = columns};
  if (grantpt(controller) != 0 || unlockpt(controller) != 0) failure = -errno;
  if (failure == 0 && ptsname_r(controller, path, capacity) != 0) failure = -errno;
  if (failure == 0) {
    *terminal = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*terminal < 0) failure = -errno;
  }
  if (failure == 0) {
    ioctl(controller, TIOCSWINSZ, &window);
    failure = sluice_unblock(controller);
    if (failure != 0) close(*terminal);
  }
  if (failure == 0) return controller;
  close(controller);
  return failure;
}

/// Tells a terminal the size of its window, of which it tells its programs (SIGWINCH).
static inline void sluice_set_window(int descriptor, unsigned short columns, unsigned short rows) {
  struct winsize window = {.ws_row = rows, .ws_col = columns};
  ioctl(descriptor, TIOCSWINSZ, &window);
}

/// The size of a terminal's window: 0, or a negative errno. A terminal that does not know has 0 columns.
static inline int sluice_window(int descriptor, unsigned short *columns, unsigned short *rows) {
  struct winsize window;
  if (ioctl(descriptor, TIOCGWINSZ, &window) != 0) return -errno;
  *columns = window.ws_col;
  *rows = window.ws_row;
  return 0;
}

/// What ends the input of a program that reads lines of a terminal: Control-D.
static inline unsigned char sluice_end_character(int descriptor) {
  struct termios settings;
  return tcgetattr(descriptor, &settings) == 0 ? settings.c_cc[VEOF] : 4;
}

/// Has a terminal pass on what is typed as it is typed, each key, without echo, and what is written as it is written: what it did before is put into
/// `before`. 0, or a negative errno.
static inline int sluice_make_raw(int descriptor, struct termios *before) {
  if (tcgetattr(descriptor, before) != 0) return -errno;
  struct termios raw = *before;
  cfmakeraw(&raw);
  return tcsetattr(descriptor, TCSADRAIN, &raw) == 0 ? 0 : -errno;
}

/// Opens a serial line, raw, at a speed in bits per second, or at its own for 0: a descriptor that does not block and is not inherited, or a negative errno.
static inline int sluice_open_serial(const char *path, unsigned int speed) {
  // Without waiting for a modem's carrier.
  int descriptor = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), failure = 0;
  if (descriptor < 0) return -errno;
  struct termios settings;
  if (tcgetattr(descriptor, &settings) != 0) failure = -errno;
  if (failure == 0) {
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    if (speed > 0 && cfsetspeed(&settings, speed) != 0) failure = -errno;
  }
  if (failure == 0 && tcsetattr(descriptor, TCSANOW, &settings) != 0) failure = -errno;
  if (failure == 0) return descriptor;
  close(descriptor);
  return failure;
}
