// A stand-in for a device: runs tick.cu as an ordinary program, a thread for a thread, an agent after another. The test
// that starts it writes commands to its input, of words of four bytes: 0 and a buffer and a number of words (make room),
// 1 and a buffer, a place, a number and as many words (write), 2 and a buffer, a place and a number (read them back), 3
// and a lane and a number of turns (run). Buffers of a lane are numbered on from those of the lane before.
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL static void
#define FUNCTION static inline
#define OUTLINED static
#define SHARED(shared, room)                                                                                           \
    static float shared[SHARED_CONSTANTS + 1];                                                                         \
    static Room own_room;                                                                                              \
    Room *room = &own_room
#define ALIGNED _Alignas(16)
#define CONSTANT static
#define UNROLL
#define UNROLL_BY(count)
#define THREAD thread_number
#define AGENT 0
#define AGENTS 1
#define FIRST_TURN 0
#define TURNS_AT_ONCE 1

static _Thread_local unsigned int thread_number;
static atomic_uint arrived, round_number;

static void barrier(void) {
    unsigned int own = atomic_load(&round_number);
    if (atomic_fetch_add(&arrived, 1) + 1 == THREADS) {
        atomic_store(&arrived, 0);
        atomic_store(&round_number, own + 1);
    } else {
        while (atomic_load(&round_number) == own)
            sched_yield();
    }
}

static void everybody(void) { barrier(); }

// What a thread has when all have said what they have. On a device this orders no memory; here it waits, so that no race
// beside it is found.
#define SAY(NAME, TYPE, FROM)                                                                                          \
    static TYPE NAME(TYPE value, unsigned int number) {                                                                \
        static TYPE values[THREADS];                                                                                   \
        values[thread_number] = value;                                                                                 \
        barrier();                                                                                                     \
        TYPE said = values[FROM];                                                                                      \
        barrier();                                                                                                     \
        return said;                                                                                                   \
    }
SAY(exchange, float, thread_number ^ number)
SAY(exchange_place, unsigned int, thread_number ^ number)
SAY(earlier, float, thread_number < number ? thread_number : thread_number - number)
SAY(earlier_count, unsigned long long, thread_number < number ? thread_number : thread_number - number)

static float passing(const float *place) { return *place; }

static void prefetch(const float *place) { (void)place; }

static float quotient(float dividend, float divisor) { return dividend / divisor; }

static unsigned int reserve(unsigned int *counter, unsigned int count) {
    unsigned int before = *counter;
    *counter += count;
    return before;
}

#include "tick.cu"

#define BUFFERS 14
#define LANES 3
static u32 *buffers[LANES * BUFFERS];
static u32 lane, turns;

static void *run(void *number) {
    thread_number = (unsigned int)(size_t)number;
    // Constants, maps, states and places are common: the first lane's.
    u32 **b = buffers + lane * BUFFERS, **common = buffers;
    tick((Turn *)b[0], (float *)b[1], b[2], b[3], b[4], (float *)b[5], (float *)common[6], (float *)common[7],
         (float *)common[8], common[9], (float *)b[10], b[11], b[12], (float *)b[13], turns);
    return NULL;
}

static void take(u32 *words, size_t count) {
    if (fread(words, 4, count, stdin) != count)
        exit(0);
}

int main(void) {
    for (;;) {
        u32 command[4];
        take(command, 1);
        switch (command[0]) {
        case 0:
            take(command, 2);
            buffers[command[0]] = realloc(buffers[command[0]], 4 * (size_t)command[1]);
            break;
        case 1:
            take(command, 3);
            take(buffers[command[0]] + command[1], command[2]);
            break;
        case 2:
            take(command, 3);
            fwrite(buffers[command[0]] + command[1], 4, command[2], stdout);
            fflush(stdout);
            break;
        default:
            take(command, 2);
            lane = command[0];
            turns = command[1];
            pthread_t threads[THREADS];
            for (size_t number = 0; number < THREADS; number++)
                pthread_create(&threads[number], NULL, run, (void *)number);
            for (size_t number = 0; number < THREADS; number++)
                pthread_join(threads[number], NULL);
        }
    }
}
