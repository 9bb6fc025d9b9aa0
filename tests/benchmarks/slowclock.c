/* Slows down the clocks of a process, so that under callgrind they keep pace with the code.
 *
 * callgrind executes a program some SLOWDOWN times slower than the machine does, while clocks keep their pace: a timer
 * of 50 ms would fire SLOWDOWN times too often for the work done between two of them. Preloaded, this library divides
 * the time that the clocks return by SLOWDOWN, and multiplies the time of waits by it.
 *
 * On a busy machine the code is slower still, by a factor that keeps changing. So the time that counts is the CPU time
 * of the process, and real time only while its main thread, which runs the loop, waits for something. Linux, glibc;
 * wall time is left alone. Not for processes that fork and go on in the child, whose CPU time starts from zero.
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
#define MILLISECOND 1000000LL
#define SHORTEST (10 * MILLISECOND) /* real time; waiters check no more often whether their time has come */

typedef int sem_wait_function(sem_t *);
typedef int sem_clockwait_function(sem_t *, clockid_t, const struct timespec *);
typedef int cond_wait_function(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static sem_wait_function *real_sem_wait;
static sem_clockwait_function *real_sem_clockwait;
static cond_wait_function *real_cond_timedwait;

static long long to_ns(const struct timespec *time)
{
    return time->tv_sec * SECOND + time->tv_nsec;
}

static struct timespec from_ns(long long ns)
{
    return (struct timespec){.tv_sec = ns / SECOND, .tv_nsec = ns % SECOND};
}

static long long unslowed(clockid_t clock)
{
    struct timespec now;
    syscall(SYS_clock_gettime, clock, &now);
    return to_ns(&now);
}

/* The time that counts: one of two clocks, and its offset to that. In one word, whose last bit tells which clock, since
 * other threads read it while the main thread switches between the two. */

static long long source;

static clockid_t clock_of(long long source)
{
    return source & 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
}

static long long gone_by(void)
{
    long long before, now = __atomic_load_n(&source, __ATOMIC_RELAXED);
    long long ns;
    do {
        before = now;
        ns = unslowed(clock_of(before)) + (before >> 1);
        now = __atomic_load_n(&source, __ATOMIC_RELAXED);
    } while (now != before);
    return ns;
}

static void go_by(int waiting)
{
    if (gettid() != getpid())
        return;
    long long ahead = gone_by() - unslowed(clock_of(waiting));
    __atomic_store_n(&source, ahead * 2 + waiting, __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void begin(void)
{
    real_sem_wait = (sem_wait_function *)dlsym(RTLD_NEXT, "sem_wait");
    real_sem_clockwait = (sem_clockwait_function *)dlsym(RTLD_NEXT, "sem_clockwait");
    real_cond_timedwait = (cond_wait_function *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    source = 2 * (unslowed(CLOCK_MONOTONIC) - unslowed(CLOCK_PROCESS_CPUTIME_ID));
}

static long long slowed(void)
{
    return gone_by() / SLOWDOWN;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock == CLOCK_MONOTONIC) {
        *now = from_ns(slowed());
        return 0;
    }
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (failed || clock == CLOCK_REALTIME)
        return failed;
    long long ns = to_ns(now);
    if (clock == CLOCK_BOOTTIME) /* it is compared with CLOCK_MONOTONIC */
        ns += gone_by() - unslowed(CLOCK_MONOTONIC);
    *now = from_ns(ns / SLOWDOWN);
    return 0;
}

/* Real ns until the deadline may be reached; 0 if it is. After that time it may not be yet, if the process had no CPU
 * meanwhile: waiters ask again. */
static long long left(long long deadline)
{
    long long ns = deadline * SLOWDOWN - gone_by();
    return ns <= 0 ? 0 : ns < SHORTEST ? SHORTEST : ns;
}

static struct timespec in(long long ns)
{
    return from_ns(unslowed(CLOCK_MONOTONIC) + ns);
}

static int sleep_until(long long deadline)
{
    for (long long ns; (ns = left(deadline));) {
        struct timespec until = in(ns);
        if (syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
            return errno;
    }
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wait, struct timespec *rest)
{
    (void)clock, (void)rest; /* Python sleeps until a time of CLOCK_MONOTONIC */
    go_by(1);
    int failed = sleep_until(to_ns(wait) + (flags & TIMER_ABSTIME ? 0 : slowed()));
    go_by(0);
    return failed;
}

int poll(struct pollfd *files, nfds_t count, int timeout)
{
    if (!timeout)
        return syscall(SYS_ppoll, files, count, &(struct timespec){0}, NULL, 8);
    go_by(1);
    long long deadline = slowed() + timeout * MILLISECOND, ns;
    int ready;
    do {
        ns = left(deadline);
        struct timespec limit = from_ns(ns);
        ready = syscall(SYS_ppoll, files, count, timeout < 0 ? NULL : &limit, NULL, 8);
    } while (!ready && ns);
    int why = errno;
    go_by(0);
    errno = why;
    return ready;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    struct pollfd file = {.fd = epoll, .events = POLLIN};
    int ready = timeout ? poll(&file, 1, timeout) : 1;
    return ready > 0 ? syscall(SYS_epoll_pwait, epoll, events, most, 0, NULL, 8) : ready;
}

/* The waits of Python's locks and of its GIL; both give deadlines on CLOCK_MONOTONIC. A wait for the GIL is a wait for
 * a thread that computes. */

int sem_wait(sem_t *semaphore)
{
    go_by(1);
    int failed = real_sem_wait(semaphore), why = errno;
    go_by(0);
    errno = why;
    return failed;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *deadline)
{
    int failed, why;
    long long ns;
    go_by(1);
    do {
        ns = left(to_ns(deadline));
        struct timespec until = in(ns);
        failed = real_sem_clockwait(semaphore, clock, &until), why = errno;
    } while (failed && why == ETIMEDOUT && ns);
    go_by(0);
    errno = why;
    return failed;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline)
{
    /* Only once, even if the time has not come: a second wait would lose a signal that comes as the first one ends. */
    struct timespec until = in(left(to_ns(deadline)));
    return real_cond_timedwait(condition, mutex, &until);
}
