#pragma once

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include "descriptors.h"

/// Whether the process ignores a signal.
static inline bool sluice_ignores(int number) {
  struct sigaction action;
  return sigaction(number, 0, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == SIG_IGN;
}

/// Names the calling thread.
static inline void sluice_name_thread(const char *name) {
#ifdef __linux__
  prctl(PR_SET_NAME, name);
#else
  pthread_setname_np(name);
#endif
}

/// Closes every descriptor from `first` on: between fork and exec.
static inline void sluice_close_from(int first) {
#ifdef SYS_close_range
  if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
  for (long descriptor = sysconf(_SC_OPEN_MAX); descriptor-- > first;) close((int)descriptor);
}

/// A pipe that is not inherited, and whose writing end does not block: 0, or a negative errno.
static inline int sluice_guard_pipe(int ends[2]) {
#ifdef __linux__
  if (syscall(SYS_pipe2, ends, O_CLOEXEC) != 0) return -errno;
#else
  if (pipe(ends) != 0) return -errno;
  for (int i = 0; i < 2; i++) fcntl(ends[i], F_SETFD, FD_CLOEXEC);
#endif
  return sluice_unblock(ends[1]);
}

/// Starts a shell, in a session of its own, that runs a script with a pipe as its standard input and nothing else of ours: its process id, and our end of
/// the pipe, which does not block; or a negative errno.
static inline int sluice_start_guard(const char *script, int *writer) {
  char *arguments[] = {"sh", "-c", (char *)script, 0}, *environment[] = {"PATH=/usr/bin:/bin", 0};
  int ends[2], status = sluice_guard_pipe(ends);
  if (status != 0) return status;
  // No handler of ours runs in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t process = fork();
  if (process == 0) {
    setsid();
    // Above what is replaced, should one of these be free.
    int input = fcntl(ends[0], F_DUPFD, 3), nothing = open("/dev/null", O_WRONLY);
    if (dup2(input, 0) < 0 || dup2(nothing, 1) < 0 || dup2(nothing, 2) < 0 || chdir("/") != 0) _exit(127);
    sluice_close_from(3);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    execve("/bin/sh", arguments, environment);
    _exit(127);
  }
  status = process < 0 ? -errno : process;
  pthread_sigmask(SIG_SETMASK, &before, 0);
  close(ends[0]);
  if (status > 0) *writer = ends[1];
  else close(ends[1]);
  return status;
}

/// Sends a signal to what is in a session, but not in the group of its leader: the number of processes. Signal 0 asks for that alone. 0 where the system
/// does not tell.
static inline int sluice_signal_other_groups(pid_t session, int signal) {
  int count = 0;
#ifdef __linux__
  DIR *folder = opendir("/proc");
  struct dirent *entry;
  while (folder && (entry = readdir(folder))) {
    pid_t process = atoi(entry->d_name);
    if (process > 0 && getsid(process) == session && getpgid(process) != session && kill(process, signal) == 0) count++;
  }
  if (folder) closedir(folder);
#endif
  return count;
}

/// The id of a child that has exited and was not reaped yet; 0 if there is none.
static inline pid_t sluice_exited_child(void) {
  siginfo_t info = {0};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 ? info.si_pid : 0;
}
