// A stand-in for a device: runs tick.cu as an ordinary program, a thread for a thread, a block after another. The test
// that starts it writes commands to its input, of words of four bytes: 0 and a buffer and a number of words (make room),
// 1 and a buffer, a place, a number and as many words (write), 2 and a buffer, a place and a number (read them back), 3
// and a number of blocks (run).
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL static void
#define FUNCTION static inline
#define ROOM(room)                                                                                                     \
    static Room shared;                                                                                                \
    Room *room = &shared
#define CONSTANT static
#define THREAD thread_number
#define TURN turn_number

static _Thread_local unsigned int thread_number, turn_number;
static atomic_uint arrived, round_number;
static float values[THREADS];

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

static float sum_of_8(float value) {
    values[thread_number] = value;
    barrier();
    float sum = 0;
    for (unsigned int at = 0; at < 8; at++)
        sum += values[thread_number / 8 * 8 + at];
    barrier();
    return sum;
}

static unsigned int reserve(unsigned int *counter, unsigned int count) {
    unsigned int before = *counter;
    *counter += count;
    return before;
}

#include "tick.cu"

#define BUFFERS 14
static u32 *buffers[BUFFERS];
static u32 blocks;

static void *run(void *number) {
    thread_number = (unsigned int)(size_t)number;
    for (turn_number = 0; turn_number < blocks; turn_number++) {
        u32 **b = buffers;
        tick((Turn *)b[0], (float *)b[1], b[2], b[3], b[4], (float *)b[5], (float *)b[6], (float *)b[7], (float *)b[8],
             b[9], (float *)b[10], b[11], b[12], (float *)b[13]);
        barrier();
    }
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
            take(&blocks, 1);
            pthread_t threads[THREADS];
            for (size_t number = 0; number < THREADS; number++)
                pthread_create(&threads[number], NULL, run, (void *)number);
            for (size_t number = 0; number < THREADS; number++)
                pthread_join(threads[number], NULL);
        }
    }
}
