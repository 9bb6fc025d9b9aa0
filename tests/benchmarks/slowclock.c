/* Slows down the clocks of a process, so that under callgrind they keep pace with the code.
 *
 * callgrind executes a program some SLOWDOWN times slower than the machine does, while clocks go on as ever: a timer
 * of 50 ms would come SLOWDOWN times too often for the work done between two of them. Preloaded, this library
 * divides what the clocks say by SLOWDOWN and multiplies what is waited for by it. Linux, glibc; wall time is left
 * alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SLOWDOWN
#error "compile with -DSLOWDOWN=n"
#endif

#define SECOND 1000000000LL

typedef int sem_wait_function(sem_t *, clockid_t, const struct timespec *);
typedef int cond_wait_function(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static sem_wait_function *real_sem_clockwait;
static cond_wait_function *real_cond_timedwait;

__attribute__((constructor)) static void look_up(void)
{
    real_sem_clockwait = (sem_wait_function *)dlsym(RTLD_NEXT, "sem_clockwait");
    real_cond_timedwait = (cond_wait_function *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
}

static struct timespec from_ns(long long ns)
{
    return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

static struct timespec real(const struct timespec *slowed)
{
    return from_ns((slowed->tv_sec * SECOND + slowed->tv_nsec) * SLOWDOWN);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock != CLOCK_REALTIME)
        *now = from_ns((now->tv_sec * SECOND + now->tv_nsec) / SLOWDOWN);
    return failed;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wait, struct timespec *left)
{
    struct timespec until = real(wait);
    return syscall(SYS_clock_nanosleep, clock, flags, &until, left) ? errno : 0;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    return syscall(SYS_epoll_pwait, epoll, events, most, timeout > 0 ? timeout * SLOWDOWN : timeout, NULL, 8);
}

int poll(struct pollfd *files, nfds_t count, int timeout)
{
    struct timespec wait = from_ns(timeout * (SECOND / 1000) * SLOWDOWN);
    return syscall(SYS_ppoll, files, count, timeout < 0 ? NULL : &wait, NULL, 8);
}

/* The waits of Python's locks and of its GIL; both give deadlines on CLOCK_MONOTONIC. */

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *deadline)
{
    struct timespec until = real(deadline);
    return real_sem_clockwait(semaphore, clock, &until);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline)
{
    struct timespec until = real(deadline);
    return real_cond_timedwait(condition, mutex, &until);
}
