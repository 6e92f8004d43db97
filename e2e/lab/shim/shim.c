/*
 * For test labs only: lets QEMU 10.0 take COLO checkpoints under TCG.
 *
 * QEMU's COLO thread saves its live state without the big lock. Under TCG that
 * path ends in run_on_cpu() (cpu-common.c), which waits on a condition with a
 * mutex that the thread does not hold: the mutex is left locked and QEMU
 * hangs. With this library preloaded, a wait whose caller does not own the
 * mutex takes it, wakes everybody who sleeps on it (the kick that they wait
 * for may have been lost), lets go and returns as a spurious wake-up. Every
 * caller in QEMU waits in a loop on its predicate, so that is allowed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLEEPERS 256

typedef int wait_function(pthread_cond_t *, pthread_mutex_t *);

struct sleeper {
    _Atomic(pthread_cond_t *) condition;
    _Atomic(pthread_mutex_t *) mutex;
};

static struct sleeper sleepers[SLEEPERS];
static wait_function *real_wait;
static __thread int thread_id;

__attribute__((constructor)) static void find_real_wait(void)
{
    real_wait = (wait_function *)dlvsym(RTLD_NEXT, "pthread_cond_wait", "GLIBC_2.3.2");
}

static int owned_by_caller(const pthread_mutex_t *mutex)
{
    if (!thread_id) {
        thread_id = (int)syscall(SYS_gettid);
    }
    return mutex->__data.__owner == thread_id;
}

static int wait_and_be_findable(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    int i, result;

    for (i = 0; i < SLEEPERS; i++) {
        pthread_cond_t *none = NULL;
        if (atomic_compare_exchange_strong(&sleepers[i].condition, &none, condition)) {
            atomic_store(&sleepers[i].mutex, mutex);
            break;
        }
    }
    result = real_wait(condition, mutex);
    if (i < SLEEPERS) {
        atomic_store(&sleepers[i].mutex, NULL);
        atomic_store(&sleepers[i].condition, NULL);
    }
    return result;
}

static void wake_sleepers_of(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    for (int i = 0; i < SLEEPERS; i++) {
        pthread_cond_t *condition = atomic_load(&sleepers[i].condition);
        if (condition && atomic_load(&sleepers[i].mutex) == mutex) {
            pthread_cond_broadcast(condition);
        }
    }
    pthread_mutex_unlock(mutex);
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    const struct timespec moment = {0, 10000};

    if (owned_by_caller(mutex)) {
        return wait_and_be_findable(condition, mutex);
    }
    wake_sleepers_of(mutex);
    nanosleep(&moment, NULL);
    return 0;
}
