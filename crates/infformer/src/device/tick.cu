// One tick of many agents on a device: the threads of a warp take an agent's observations, write what leaves its
// short-term ring, and answer its queries. Nothing of the state leaves the device.
//
// The host puts two texts in front: the numbers of one configuration, so that every loop has a length that the compiler
// knows, and a prelude with the words of the device: KERNEL, FUNCTION, SHARED, ALIGNED, CONSTANT, UNROLL, UNROLL_BY,
// INFINITY, THREAD (of THREADS, of an agent), AGENT (of AGENTS in a block), FIRST_TURN, TURNS_AT_ONCE, barrier,
// everybody, exchange, exchange_place, earlier, earlier_count, prefetch, reserve and quotient. What is left is plain C,
// so that an ordinary program can run it too, with threads for threads.
//
// The rules are those of the host's modules: the ring and the statistics (plan), blocks, moments, recall. Arithmetic is
// single; ages of blocks, which must agree between groups, are whole numbers.

#define MOST_DISTANCE 3e38f

typedef unsigned int u32;
typedef unsigned long long u64;

// A row of the ring and of the observations: the channels and the interval.
#define ROW (D + 1)
#if LINEAR
#define LONG_TERM (ROW * N)
#define LONG_CELLS CELLS
#else
#define LONG_TERM ((N + 1) * (D + G))
#define LONG_CELLS (G * N)
#endif
#define MOST_CELLS (RING + LONG_CELLS)
// Between two peaks is a valley.
#define MOST_PEAKS (MOST_CELLS / 2 + 1)
// Long loops give each thread two things at once: what one of them waits for, the other uses too.
#define STRIPS 2
// Rows of Bᵀ that are read at the cells at a time.
#define LINES 2
// Rows of Bᵀ that are written at a time: about twelve, as nearly as many each time, by fours.
#define PASSES ((ROW + 11) / 12)
#define ROWS (((ROW + PASSES - 1) / PASSES + 3) / 4 * 4)
// Rows of a map that are on their way at a time.
#define AHEAD 2
// Channels that are summed at a time.
#define TILE (THREADS < 16 ? THREADS : 16)

// Where the parts of an agent's floats begin. The signal is at the start.
#define RING_AT LONG_TERM
#define MEAN_AT (RING_AT + RING * ROW)
#define VARIANCE_AT (MEAN_AT + D)
#define LOSSES_AT (VARIANCE_AT + D)

// Where the parts of the constants begin: 1/scale² (0 where it is learnt), ages at the cells' ends, ψ at the cells [N,
// columns], its rows PITCH words apart: an odd number, so that threads with words of one column are not in each other's
// way.
#define PRECISION_AT 0
#define AGES_AT D
#if LINEAR
#define PSI_AT (AGES_AT + CELLS + 1)
#define CONSTANTS (PSI_AT + N * PITCH)
#else
#define CONSTANTS D
#endif
// Words of the constants in the memory that a block shares, if there is room for them.
#if CONSTANTS <= 12288 && !defined(FAR_CONSTANTS)
#define SHARED_CONSTANTS ((CONSTANTS + 3) / 4 * 4)
#else
#define SHARED_CONSTANTS 0
#endif

typedef struct {
    u32 slot;
    u32 first_observation;
    u32 observations;
    u32 first_query;
    u32 queries;
    // Under Uniform, where the numbers of the maps of its writes begin.
    u32 first_write;
    // Row of the oldest observation in the ring, and how many are in it.
    u32 head;
    u32 held;
    // Observations ever pushed, and those in the signal; as many as can be counted.
    u32 seen;
    u32 written;
    // Ticks since the newest observation.
    float late;
    // The most peaks that are listed.
    u32 peaks;
} Turn;

// What of a turn changes while it lasts.
typedef struct {
    u32 head;
    u32 held;
    u32 seen;
    u32 written;
} Life;

// The cells of an agent and the density over them.
typedef struct {
    float newer[MOST_CELLS];
    float length[MOST_CELLS];
    float interval[MOST_CELLS];
    float age[MOST_CELLS];
    // First the squared distance.
    float similarity[MOST_CELLS];
    float mass[MOST_CELLS];
    // Work space, then the weights of one peak's cells.
    float weight[MOST_CELLS];
    u32 cells;
    // Every peak: where it begins (and the next does), its height and mass; then the heaviest.
    u32 start[MOST_PEAKS + 1];
    float height[MOST_PEAKS];
    float peak_mass[MOST_PEAKS];
    u32 chosen[PEAKS + 1];
    u32 peaks;
    u32 first_peak;
    // What is asked for.
    u32 channels[D];
    float targets[D];
    float precisions[D];
#if LINEAR
    // Rows of Bᵀ beside each other.
    ALIGNED float coefficients[LINES * N];
    float expectations[N];
#else
    // Blocks of all groups, newest first: ages of the older ends, rows, numbers of newer cells, numbers of knots.
    u64 ends[G * N];
    unsigned short rows[G * N];
    unsigned short until[G * N];
    union {
        float knots[G * N];
        // Then how much the blocks weigh, by their rows.
        float row_weights[G * (N + 1)];
    };
    // Of each block of each group, the block of each other group in which it ends.
    unsigned short partner[G * G * N];
#endif
} Reading;

#if LINEAR
// Rows of Bᵀ and of the chunk beside each other.
typedef struct {
    ALIGNED float inputs[ROWS * (N + L)];
} Writing;
#else
// The blocks of one group while an observation is pushed.
typedef struct {
    u32 order[N + 1];
    u32 lengths[N + 1];
    float losses[N + 1];
    float ages[N + 1];
} Pushed;
typedef struct {
    Pushed groups[G];
} Writing;
#endif

// An agent's part of the memory that a block shares.
typedef union {
    Reading reading;
    Writing writing;
} Room;

// Σ of every thread's value.
FUNCTION float sum_of_all(float value) {
    UNROLL
    for (u32 mask = 1; mask < THREADS; mask *= 2)
        value += exchange(value, mask);
    return value;
}

// Least of every thread's values.
FUNCTION float least_of_all(float value) {
    UNROLL
    for (u32 mask = 1; mask < THREADS; mask *= 2)
        value = fminf(value, exchange(value, mask));
    return value;
}

// Turns `count` shared values into their running sums. The values were stored before a barrier.
#define RUNNING_SUMS(NAME, TYPE, EARLIER)                                                                              \
    FUNCTION void NAME(TYPE *values, u32 count) {                                                                      \
        u32 each = (count + THREADS - 1) / THREADS;                                                                    \
        u32 from = THREAD * each < count ? THREAD * each : count;                                                      \
        u32 to = from + each < count ? from + each : count;                                                            \
        TYPE sum = 0;                                                                                                  \
        for (u32 at = from; at < to; at++)                                                                             \
            sum = values[at] += sum;                                                                                   \
        TYPE all = sum;                                                                                                \
        UNROLL                                                                                                         \
        for (u32 step = 1; step < THREADS; step *= 2) {                                                                \
            TYPE before = EARLIER(all, step);                                                                          \
            all += THREAD >= step ? before : 0;                                                                        \
        }                                                                                                              \
        TYPE before = EARLIER(all, 1);                                                                                 \
        for (u32 at = from; THREAD > 0 && at < to; at++)                                                               \
            values[at] += before;                                                                                      \
        barrier();                                                                                                     \
    }
RUNNING_SUMS(running_sums, float, earlier)

// 1/scale² of a channel.
FUNCTION float precision(const float *constants, const float *state, u32 channel) {
    float given = constants[PRECISION_AT + channel];
    if (given > 0)
        return given;
    // A channel that never moved yet: differences below its rounding do not count.
    float mean = state[MEAN_AT + channel];
    return 1 / fmaxf(fmaxf(state[VARIANCE_AT + channel], 1e-12f * mean * mean), 1.0842022e-19f);
}

// Where in the ring the observation is that is `age` observations old.
FUNCTION u32 ring_row(const Life *life, u32 age) { return (life->head + life->held - 1 - age) % RING; }

// Puts an observation into the ring and the statistics.
FUNCTION void observe(const Life *life, float *state, const float *row) {
    float *place = state + RING_AT + (life->head + life->held) % RING * ROW;
    float share = 1 / (float)(life->seen < STATISTICS_MEMORY ? life->seen + 1 : STATISTICS_MEMORY);
    for (u32 channel = THREAD; channel < ROW; channel += THREADS) {
        float value = row[channel];
        place[channel] = value;
        if (channel < D) {
            float *mean = state + MEAN_AT + channel, *variance = state + VARIANCE_AT + channel;
            float before = value - *mean;
            *mean += before * share;
            *variance += (before * (value - *mean) - *variance) * share;
        }
    }
}

#if LINEAR

// What a thread has in hand in a strip of a long loop; beyond the end the last one, which it then leaves alone.
FUNCTION u32 strip_at(u32 first, u32 strip, u32 count) {
    u32 at = first + strip * THREADS + THREAD;
    return at < count ? at : count - 1;
}

// ψ of number n at a cell.
FUNCTION float psi_of(const float *constants, u32 n, u32 cell) {
    float sign = cell >= COLUMNS && n % 2 == 1 ? -1 : 1;
    return sign * constants[PSI_AT + n * PITCH + (cell < COLUMNS ? cell : CELLS - 1 - cell)];
}

// B′ = B + (A − I)·B + C·X, some rows of Bᵀ at a time, in place. `map` is (A − I)ᵀ over Cᵀ; the first chunk of a life
// has no past.
FUNCTION void write_chunk(Writing *writing, const Life *life, float *state, const float *map) {
    float *inputs = writing->inputs;
    u32 from = life->written == 0 ? N : 0;
    for (u32 row = 0; row < ROW; row += ROWS) {
        for (u32 at = THREAD; at < ROWS * N; at += THREADS) {
            u32 line = at / N, n = at % N;
            inputs[n * ROWS + line] = from == 0 && row + line < ROW ? state[row * N + at] : 0;
        }
        for (u32 at = THREAD; at < L * ROWS; at += THREADS) {
            u32 k = at / ROWS, line = at % ROWS, place = (life->head + k) % RING;
            inputs[N * ROWS + at] = row + line < ROW ? state[RING_AT + place * ROW + row + line] : 0;
        }
        barrier();
        for (u32 first = 0; first < N; first += STRIPS * THREADS) {
            float sums[STRIPS][ROWS];
            const float *factors[STRIPS], *input = inputs + from * ROWS;
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++) {
                u32 n = strip_at(first, strip, N);
                factors[strip] = map + from * N + n;
                UNROLL
                for (u32 line = 0; line < ROWS; line++)
                    sums[strip][line] = inputs[n * ROWS + line];
            }
            for (u32 k = from; k < N + L; k += AHEAD) {
                float ahead[AHEAD][STRIPS];
                UNROLL
                for (u32 step = 0; step < AHEAD; step++) {
                    UNROLL
                    for (u32 strip = 0; strip < STRIPS; strip++)
                        ahead[step][strip] = k + step < N + L ? factors[strip][step * N] : 0;
                }
                UNROLL
                for (u32 step = 0; step < AHEAD; step++) {
                    const float *own = input + (k + step < N + L ? step : 0) * ROWS;
                    UNROLL
                    for (u32 strip = 0; strip < STRIPS; strip++) {
                        UNROLL
                        for (u32 line = 0; line < ROWS; line++)
                            sums[strip][line] += own[line] * ahead[step][strip];
                    }
                }
                UNROLL
                for (u32 strip = 0; strip < STRIPS; strip++)
                    factors[strip] += AHEAD * N;
                input += AHEAD * ROWS;
            }
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++) {
                u32 n = first + strip * THREADS + THREAD;
                UNROLL
                for (u32 line = 0; line < ROWS; line++)
                    if (n < N && row + line < ROW)
                        state[(row + line) * N + n] = sums[strip][line];
            }
        }
        barrier();
    }
}

// Age in observations of the newer end of a cell, counted from the newest in the signal.
FUNCTION float age_at(const float *constants, u32 end, float written) {
#if AXIS == POWER_LAW
    (void)written;
    return constants[AGES_AT + end];
#elif AXIS == UNIFORM
    (void)constants;
    return written * (float)end / CELLS;
#else
    (void)constants;
    float t = (float)(CELLS - end) / CELLS;
    float chunks = fmaxf(floorf(written / L), 1);
    float back = t > 0 ? fminf(floorf(logf(t) / LN_TAU), chunks - 1) : chunks - 1;
    float newest = expf(back * LN_TAU);
    float width = back == chunks - 1 ? newest : newest * ONE_LESS_TAU;
    return L * (back + (newest - t) / width);
#endif
}

// A channel's value in a long-term cell: the interval (number 0), or what constraint `number` asks for.
FUNCTION void settle(Reading *reading, u32 cell, u32 number, float value, float target, float channel_precision) {
    if (number == 0) {
        reading->interval[cell] = fmaxf(value, 0);
        reading->similarity[cell] = 0;
    } else {
        float difference = value - target;
        reading->similarity[cell] += channel_precision * difference * difference;
    }
}

// Adds ψ of one function at the thread's columns, times the coefficients.
FUNCTION void add_rows(float sums[STRIPS][LINES], const float *coefficients, const float *psi[STRIPS]) {
    UNROLL
    for (u32 strip = 0; strip < STRIPS; strip++) {
        UNROLL
        for (u32 line = 0; line < LINES; line++)
            sums[strip][line] += coefficients[line] * *psi[strip];
        psi[strip] += PITCH;
    }
}

// Lists the long-term cells, with their distances to the query. Bᵀ is read at all of them, some rows at a time.
FUNCTION void list_long_term(Reading *reading, const Life *life, const float *constants, const float *state,
                             const u32 *places, u32 constraints) {
    (void)places;
    float written = (float)life->written;
    for (u32 cell = THREAD; cell < CELLS; cell += THREADS) {
        float newer = age_at(constants, cell, written);
        float older = age_at(constants, cell + 1, written);
        reading->newer[life->held + cell] = newer + (float)life->held;
        reading->length[life->held + cell] = fminf(older, written) - newer;
        if (newer < written && (cell + 1 == CELLS || older >= written))
            reading->cells = life->held + cell + 1;
    }
    for (u32 tile = 0; tile < 1 + constraints; tile += LINES) {
        for (u32 at = THREAD; at < LINES * N; at += THREADS) {
            u32 number = tile + at / N, n = at % N;
            u32 row = number == 0 || number > constraints ? D : reading->channels[number - 1];
            reading->coefficients[n * LINES + at / N] = state[row * N + n];
        }
        barrier();
        for (u32 first = 0; first < COLUMNS; first += STRIPS * THREADS) {
            float even[STRIPS][LINES] = {{0}}, odd[STRIPS][LINES] = {{0}};
            const float *psi[STRIPS], *own = reading->coefficients;
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++)
                psi[strip] = constants + PSI_AT + strip_at(first, strip, COLUMNS);
            UNROLL_BY(4)
            for (u32 pair = 0; pair < N / 2; pair++) {
                add_rows(even, own, psi);
                add_rows(odd, own + LINES, psi);
                own += 2 * LINES;
            }
            if (N % 2 == 1)
                add_rows(even, own, psi);
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++) {
                u32 column = first + strip * THREADS + THREAD;
                UNROLL
                for (u32 line = 0; line < LINES; line++) {
                    u32 number = tile + line;
                    if (column >= COLUMNS || number > constraints)
                        continue;
                    float target = number == 0 ? 0 : reading->targets[number - 1];
                    float own = number == 0 ? 0 : reading->precisions[number - 1];
                    float sum = even[strip][line] + odd[strip][line];
                    settle(reading, life->held + column, number, sum, target, own);
#if HALVES
                    float other = even[strip][line] - odd[strip][line];
                    settle(reading, life->held + CELLS - 1 - column, number, other, target, own);
#endif
                }
            }
        }
        barrier();
    }
}

// E[ψ] of the weights of the cells of a range.
FUNCTION void expect(Reading *reading, const Life *life, const float *constants, const float *weights, u32 from,
                     u32 to) {
    from = from > life->held ? from - life->held : 0;
    to = to > life->held ? to - life->held : 0;
#if HALVES
    // Of all cells: ψ is even or odd about the middle, so both halves are weighed at once.
    u32 is_folded = weights == reading->mass;
    if (is_folded) {
        for (u32 cell = THREAD; cell < COLUMNS; cell += THREADS) {
            float newer = cell < to ? weights[life->held + cell] : 0;
            float older = CELLS - 1 - cell < to ? weights[life->held + CELLS - 1 - cell] : 0;
            reading->weight[cell] = newer + older;
            reading->weight[COLUMNS + cell] = newer - older;
        }
        barrier();
    }
#else
    u32 is_folded = 0;
#endif
    for (u32 first = 0; first < N; first += STRIPS * THREADS) {
        float sum[STRIPS] = {0};
        if (is_folded) {
            // Every strip of a thread has functions of the same kind.
            const float *folded = reading->weight + THREAD % 2 * COLUMNS, *psi[STRIPS];
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++)
                psi[strip] = constants + PSI_AT + strip_at(first, strip, N) * PITCH;
            UNROLL_BY(8)
            for (u32 column = 0; column < COLUMNS; column++) {
                UNROLL
                for (u32 strip = 0; strip < STRIPS; strip++)
                    sum[strip] += *folded * *psi[strip]++;
                folded++;
            }
        } else {
            for (u32 cell = from; cell < to; cell++) {
                UNROLL
                for (u32 strip = 0; strip < STRIPS; strip++)
                    sum[strip] += weights[life->held + cell] * psi_of(constants, strip_at(first, strip, N), cell);
            }
        }
        UNROLL
        for (u32 strip = 0; strip < STRIPS; strip++) {
            u32 n = first + strip * THREADS + THREAD;
            if (n < N)
                reading->expectations[n] = sum[strip];
        }
    }
    barrier();
}

// Adds B·E[ψ] to a value: every thread sums some functions of all channels, then all of one channel.
FUNCTION void add_signal(const Reading *reading, const float *state, float *value) {
    for (u32 first = 0; first < D; first += TILE) {
        float sums[TILE] = {0};
        for (u32 stretch = 0; stretch < N; stretch += STRIPS * THREADS) {
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++) {
                u32 n = strip_at(stretch, strip, N);
                float own = stretch + strip * THREADS + THREAD < N ? reading->expectations[n] : 0;
                const float *coefficients = state + first * N + n;
                UNROLL
                for (u32 line = 0; line < TILE; line++)
                    sums[line] += own * coefficients[(first + line < D ? line : D - 1 - first) * N];
            }
        }
        UNROLL
        for (u32 width = TILE / 2; width > 0; width /= 2) {
            UNROLL
            for (u32 line = 0; line < TILE / 2; line++) {
                if (line >= width)
                    continue;
                float own = THREAD & width ? sums[line + width] : sums[line];
                float other = THREAD & width ? sums[line] : sums[line + width];
                sums[line] = own + exchange(other, width);
            }
        }
        float sum = sums[0];
        UNROLL
        for (u32 mask = TILE; mask < THREADS; mask *= 2)
            sum += exchange(sum, mask);
        u32 channel = first + THREAD % TILE;
        if (THREAD < TILE && channel < D)
            value[channel] += sum;
    }
}

#else

RUNNING_SUMS(running_counts, u64, earlier_count)

CONSTANT const u32 GROUPS[G + 1] = {GROUP_STARTS};

// Where the means of a group begin; its rows have its channels and the interval.
FUNCTION u32 means_of(u32 group) { return (N + 1) * (GROUPS[group] + group); }

FUNCTION u32 row_width(u32 group) { return GROUPS[group + 1] - GROUPS[group] + 1; }

// Every block of every group is one thread's.
#define EACH_BLOCK                                                                                                     \
    for (u32 group = 0; group < G; group++)                                                                            \
        for (u32 block = THREAD; block < count; block += THREADS)

FUNCTION u32 group_of(u32 channel) {
    u32 group = 0;
    while (group + 1 < G && channel >= GROUPS[group + 1])
        group++;
    return group;
}

// l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d of a block and its newer neighbour.
FUNCTION float loss(const Pushed *writing, const float *constants, const float *state, u32 group, u32 older) {
    u32 width = row_width(group);
    const float *left = state + means_of(group) + writing->order[older] * width;
    const float *right = state + means_of(group) + writing->order[older + 1] * width;
    float squared = 0;
    for (u32 channel = THREAD; channel < width - 1; channel += THREADS) {
        float difference = left[channel] - right[channel];
        squared += precision(constants, state, GROUPS[group] + channel) * difference * difference;
    }
    squared = sum_of_all(squared);
    float l1 = (float)writing->lengths[older], l2 = (float)writing->lengths[older + 1];
    return fminf(l1 * l2 / (l1 + l2) * squared / (float)(width - 1), 3.4028235e38f);
}

// The older block of the pair whose merging costs least; ties go to the oldest.
FUNCTION u32 cheapest(Pushed *writing, float variance) {
    // From the newest on: ages of the blocks' newer ends.
    for (u32 at = THREAD; at < N; at += THREADS)
        writing->ages[at + 1] = (float)writing->lengths[N - at];
    if (THREAD == 0)
        writing->ages[0] = 0;
    barrier();
    running_sums(writing->ages + 1, N);
    float lowest = INFINITY;
    u32 place = 0;
    for (u32 pair = THREAD; pair < N; pair += THREADS) {
        float length = (float)writing->lengths[pair] + (float)writing->lengths[pair + 1];
        float middle = writing->ages[N - 1 - pair] + 0.5f * length;
        float cost = (fmaxf(writing->losses[pair] - TOLERANCE, 0) + MIX * variance * length) / (middle + RESOLUTION);
        if (cost < lowest) {
            lowest = cost;
            place = pair;
        }
    }
    UNROLL
    for (u32 mask = 1; mask < THREADS; mask *= 2) {
        float other = exchange(lowest, mask);
        u32 there = exchange_place(place, mask);
        if (other < lowest || (other == lowest && there < place)) {
            lowest = other;
            place = there;
        }
    }
    // Where no cost is finite, the two oldest.
    return lowest < INFINITY ? place : 0;
}

// Merges a block with its newer neighbour, whose row becomes free: the next observation's.
FUNCTION void merge(Pushed *writing, const float *constants, float *state, u32 group, u32 older) {
    u32 width = row_width(group);
    u32 free = writing->order[older + 1];
    float *kept = state + means_of(group) + writing->order[older] * width;
    const float *merged = state + means_of(group) + free * width;
    u64 both = (u64)writing->lengths[older] + writing->lengths[older + 1];
    u32 length = both < 0xffffffffu ? (u32)both : 0xffffffffu;
    float part = (float)writing->lengths[older + 1] / (float)length;
    for (u32 channel = THREAD; channel < width; channel += THREADS)
        kept[channel] += (merged[channel] - kept[channel]) * part;
    // Everything newer moves up by one, a stretch of threads at a time.
    barrier();
    if (THREAD == 0)
        writing->lengths[older] = length;
    for (u32 from = older + 1; from < N; from += THREADS) {
        u32 at = from + THREAD, order = 0, moved = 0;
        float own = 0;
        if (at < N) {
            order = writing->order[at + 1];
            moved = writing->lengths[at + 1];
            own = writing->losses[at];
        }
        barrier();
        if (at < N) {
            writing->order[at] = order;
            writing->lengths[at] = moved;
            writing->losses[at - 1] = own;
        }
        barrier();
    }
    if (THREAD == 0) {
        writing->order[N] = free;
        writing->lengths[N] = 0;
    }
    barrier();
    // With its older and its newer neighbour, where there is one.
    float own[2];
    UNROLL
    for (u32 side = 0; side < 2; side++) {
        u32 pair = older + side > 0 ? older + side - 1 : 0;
        own[side] = loss(writing, constants, state, group, pair < N - 1 ? pair : 0);
    }
    if (THREAD == 0 && older > 0)
        writing->losses[older - 1] = own[0];
    if (THREAD == 0 && older + 1 < N)
        writing->losses[older] = own[1];
    barrier();
}

// Pushes the oldest observation of the ring into every group's blocks. What all groups need from afar is fetched at
// once.
FUNCTION void push(Writing *writing, const Life *life, const float *constants, float *state, u32 *places) {
    const float *row = state + RING_AT + life->head * ROW;
    float *losses = state + LOSSES_AT;
    u32 *lengths = places + G * (N + 1);
    u32 count = life->written < N ? life->written : N;
    for (u32 group = 0; group < G; group++) {
        u32 width = row_width(group);
        float *newest = state + means_of(group) + places[group * (N + 1) + count] * width;
        for (u32 channel = THREAD; channel < width; channel += THREADS)
            newest[channel] = channel + 1 < width ? row[GROUPS[group] + channel] : row[D];
        for (u32 block = THREAD; block < N + 1; block += THREADS) {
            u32 at = group * (N + 1) + block;
            writing->groups[group].order[block] = places[at];
            writing->groups[group].lengths[block] = block == count ? 1 : lengths[at];
            writing->groups[group].losses[block] = losses[at];
        }
    }
    barrier();
    for (u32 group = 0; count > 0 && group < G; group++) {
        float own = loss(&writing->groups[group], constants, state, group, count - 1);
        if (THREAD == 0)
            writing->groups[group].losses[count - 1] = own;
    }
    barrier();
    for (u32 group = 0; count == N && group < G; group++) {
        float variance = 0;
        for (u32 channel = GROUPS[group] + THREAD; channel < GROUPS[group + 1]; channel += THREADS)
            variance += state[VARIANCE_AT + channel] * precision(constants, state, channel);
        variance = sum_of_all(variance) / (float)(row_width(group) - 1);
        Pushed *pushed = &writing->groups[group];
        merge(pushed, constants, state, group, cheapest(pushed, variance));
    }
    for (u32 at = THREAD; at < G * (N + 1); at += THREADS) {
        const Pushed *pushed = &writing->groups[at / (N + 1)];
        places[at] = pushed->order[at % (N + 1)];
        lengths[at] = pushed->lengths[at % (N + 1)];
        losses[at] = pushed->losses[at % (N + 1)];
    }
    barrier();
}

// The first block of a group whose older end is at least so old.
FUNCTION u32 block_at(const u64 *ends, u32 count, u64 end) {
    u32 from = 0, to = count;
    while (from < to) {
        u32 middle = (from + to) / 2;
        if (ends[middle] < end)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

// Lists the long-term cells, cut at the knots of all groups, with their distances to the query. A knot that several
// groups share counts as the first one's.
FUNCTION void list_long_term(Reading *reading, const Life *life, const float *constants, const float *state,
                             const u32 *places, u32 constraints) {
    (void)constants;
    u32 count = life->written < N ? life->written : N;
    EACH_BLOCK {
        reading->ends[group * N + block] = places[(G + group) * (N + 1) + count - 1 - block];
        reading->rows[group * N + block] = (unsigned short)places[group * (N + 1) + count - 1 - block];
    }
    barrier();
    for (u32 group = 0; group < G; group++)
        running_counts(reading->ends + group * N, count);
    // A full block counts no further: the blocks of one group may end before those of another.
    u64 oldest = reading->ends[count - 1];
    for (u32 group = 1; group < G; group++)
        oldest = reading->ends[group * N + count - 1] < oldest ? reading->ends[group * N + count - 1] : oldest;
    EACH_BLOCK {
        u64 end = reading->ends[group * N + block];
        float first = end <= oldest ? 1 : 0;
        for (u32 other = 0; other < G; other++) {
            u32 there = other == group ? block : block_at(reading->ends + other * N, count, end);
            reading->partner[(other * G + group) * N + block] = (unsigned short)there;
            if (other < group && there < count && reading->ends[other * N + there] == end)
                first = 0;
        }
        reading->knots[group * N + block] = first;
    }
    barrier();
    // A cell's number is how many knots are newer than its end.
    for (u32 group = 0; group < G; group++)
        running_sums(reading->knots + group * N, count);
    u32 clock = group_of(reading->channels[0]);
    EACH_BLOCK {
        const float *own = reading->knots + group * N;
        u64 end = reading->ends[group * N + block], newer = 0;
        u32 number = 0;
        for (u32 other = 0; other < G; other++) {
            u32 there = reading->partner[(other * G + group) * N + block];
            if (there > 0) {
                u64 before = reading->ends[other * N + there - 1];
                newer = before > newer ? before : newer;
                number += (u32)reading->knots[other * N + there - 1];
            }
        }
        reading->until[group * N + block] = (unsigned short)(number + 1);
        // Where the sum grows, the knot is this group's own.
        if (own[block] == (block > 0 ? own[block - 1] : 0))
            continue;
        u32 cell = life->held + number;
        if (end == oldest)
            reading->cells = cell + 1;
        reading->newer[cell] = (float)newer + (float)life->held;
        reading->length[cell] = (float)(end - newer);
        u32 there = reading->rows[clock * N + reading->partner[(clock * G + group) * N + block]];
        reading->interval[cell] = state[means_of(clock) + (there + 1) * row_width(clock) - 1];
        float distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            u32 channel = reading->channels[number], other = group_of(channel);
            there = reading->rows[other * N + reading->partner[(other * G + group) * N + block]];
            float value = state[means_of(other) + there * row_width(other) + channel - GROUPS[other]];
            float difference = value - reading->targets[number];
            distance += reading->precisions[number] * difference * difference;
        }
        reading->similarity[cell] = distance;
    }
    barrier();
}

#endif

// Lists an agent's cells, newest first, with their distances to the query.
FUNCTION void list(Reading *reading, const Life *life, const float *constants, const float *state, const u32 *places,
                   u32 constraints, const u32 *channels, const float *targets) {
    if (THREAD == 0)
        reading->cells = life->held;
    for (u32 number = THREAD; number < constraints; number += THREADS) {
        reading->channels[number] = channels[number];
        reading->targets[number] = targets[number];
        reading->precisions[number] = precision(constants, state, channels[number]);
    }
    barrier();
    for (u32 age = THREAD; age < life->held; age += THREADS) {
        const float *row = state + RING_AT + ring_row(life, age) * ROW;
        reading->newer[age] = (float)age;
        reading->length[age] = 1;
        reading->interval[age] = row[D];
        float distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            float difference = row[reading->channels[number]] - reading->targets[number];
            distance += reading->precisions[number] * difference * difference;
        }
        reading->similarity[age] = distance;
    }
    if (life->written > 0)
        list_long_term(reading, life, constants, state, places, constraints);
    barrier();
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->weight[cell] = reading->length[cell] * reading->interval[cell];
    barrier();
    running_sums(reading->weight, reading->cells);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float tick = cell > 0 ? reading->weight[cell - 1] : 0;
        reading->age[cell] = tick + 0.5f * fmaxf(reading->length[cell] - 1, 0) * reading->interval[cell];
    }
    barrier();
}

// The coordinate of an age on the axis of the measure.
FUNCTION float coordinate(float age) {
#if RECENCY
    return log1pf(age / MEASURE_RESOLUTION);
#else
    return age;
#endif
}

// Fills in the similarity and the density of each cell; gives the least distance.
FUNCTION float find_density(Reading *reading) {
    float nearest = INFINITY;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
#if RECENCY
        reading->mass[cell] = log1pf(quotient(reading->length[cell], reading->newer[cell] + MEASURE_RESOLUTION));
#else
        reading->mass[cell] = reading->length[cell];
#endif
        // Beyond what single arithmetic holds all are as far: their differences stay numbers.
        reading->similarity[cell] = fminf(reading->similarity[cell], MOST_DISTANCE);
        // A cell without length says nothing of what is nearest.
        if (reading->mass[cell] > 0)
            nearest = fminf(nearest, reading->similarity[cell]);
    }
    nearest = least_of_all(nearest);
    float total = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        // As on the host, what is next to nothing is nothing: no peaks among roundings.
        float exponent = -SHARPNESS * fmaxf(reading->similarity[cell] - nearest, 0);
        reading->similarity[cell] = exponent < -87 ? 0 : expf(exponent);
        reading->mass[cell] *= reading->similarity[cell];
        total += reading->mass[cell];
    }
    total = sum_of_all(total);
    total = total > 0 ? 1 / total : 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->mass[cell] *= total;
#if GAUSSIAN
    // The Gaussian with the same mean and variance on the axis of the measure.
    float mean = 0, variance = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        mean += reading->mass[cell] * 0.5f * (newer + older);
    }
    mean = sum_of_all(mean);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        float off = 0.5f * (newer + older) - mean;
        variance += reading->mass[cell] * (off * off + (older - newer) * (older - newer) / 12);
    }
    float scale = 0.70710678f / fmaxf(sqrtf(sum_of_all(variance)), 1.1754944e-38f);
    total = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        float from = (newer - mean) * scale, to = (older - mean) * scale;
        // Of the two tails the thinner one: near 2 the difference would be lost.
        reading->mass[cell] = 0.5f * (from + to > 0 ? erfcf(from) - erfcf(to) : erfcf(-to) - erfcf(-from));
        total += reading->mass[cell];
    }
    total = sum_of_all(total);
    total = total > 0 ? 1 / total : 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->mass[cell] *= total;
#endif
    barrier();
    return nearest;
}

// Splits the cells into basins around the maxima of the similarity and chooses the heaviest, heaviest first.
FUNCTION void find_peaks(Reading *reading, u32 most, u32 *counter) {
    if (most == 0) {
        if (THREAD == 0)
            reading->peaks = reading->first_peak = 0;
        barrier();
        return;
    }
    if (THREAD == 0) {
        u32 peaks = 0, start = 0, valley_at = 0;
        float height = reading->similarity[0], valley = height;
        for (u32 cell = 1; cell < reading->cells; cell++) {
            float value = reading->similarity[cell];
            if (value <= valley) {
                valley = value;
                valley_at = cell;
            } else if (valley < VALLEY * value && valley < VALLEY * height) {
                reading->start[peaks] = start;
                reading->height[peaks] = height;
                peaks++;
                start = valley_at > start + 1 ? valley_at : start + 1;
                height = valley = value;
                valley_at = cell;
            } else if (value > height) {
                height = valley = value;
                valley_at = cell;
            }
        }
        reading->start[peaks] = start;
        reading->height[peaks] = height;
        peaks++;
        reading->start[peaks] = reading->cells;
        reading->peaks = peaks;
    }
    barrier();
    for (u32 peak = THREAD; peak < reading->peaks; peak += THREADS) {
        float mass = 0, least = NEAR * reading->height[peak];
        for (u32 cell = reading->start[peak]; cell < reading->start[peak + 1]; cell++)
            mass += reading->similarity[cell] >= least ? reading->mass[cell] : 0;
        reading->peak_mass[peak] = mass;
    }
    barrier();
    for (u32 peak = THREAD; peak < reading->peaks; peak += THREADS) {
        float mass = reading->peak_mass[peak];
        u32 heavier = 0;
        for (u32 other = 0; other < reading->peaks; other++)
            heavier += reading->peak_mass[other] > mass || (reading->peak_mass[other] == mass && other < peak);
        if (heavier < most)
            reading->chosen[heavier] = peak;
    }
    barrier();
    if (THREAD == 0) {
        reading->peaks = reading->peaks < most ? reading->peaks : most;
        reading->first_peak = reserve(counter, reading->peaks);
    }
    barrier();
}

// Σ weight·value into `value`: of the short-term memory, and of the blocks or the signal.
FUNCTION void find_expected(Reading *reading, const Life *life, const float *constants, const float *state,
                            const float *weights, u32 from, u32 to, float *value) {
    u32 recent = to < life->held ? to : life->held;
#if LINEAR
    if (life->written > 0)
        expect(reading, life, constants, weights, from, to);
#else
    (void)constants;
    u32 count = life->written < N ? life->written : N;
    // By rows, one of which is free.
    for (u32 at = THREAD; at < G * (N + 1); at += THREADS)
        reading->row_weights[at] = 0;
    barrier();
    EACH_BLOCK {
        const unsigned short *until = reading->until + group * N;
        u32 first = life->held + (block > 0 ? until[block - 1] : 0), last = life->held + until[block];
        float weight = 0;
        for (u32 cell = first > from ? first : from; cell < (last < to ? last : to); cell++)
            weight += weights[cell];
        reading->row_weights[group * (N + 1) + reading->rows[group * N + block]] = weight;
    }
    barrier();
#endif
    // Without branches, many words are on their way at once; what weighs nothing is not fetched.
    for (u32 channel = THREAD; channel < D; channel += THREADS) {
        float sum = 0;
        const float *ring = state + RING_AT + channel;
        for (u32 first = from; first < recent; first += 8) {
            UNROLL
            for (u32 line = 0; line < 8; line++) {
                u32 age = first + line;
                float weight = age < recent ? weights[age] : 0;
                float own = weight != 0 ? ring[ring_row(life, age) * ROW] : 0;
                sum += weight * own;
            }
        }
#if !LINEAR
        u32 group = group_of(channel), width = row_width(group);
        const float *mean = state + means_of(group) + channel - GROUPS[group];
        const float *row_weights = reading->row_weights + group * (N + 1);
        for (u32 first = 0; first < N + 1; first += 16) {
            UNROLL
            for (u32 line = 0; line < 16; line++) {
                float weight = first + line < N + 1 ? row_weights[first + line] : 0;
                float own = weight > 0 ? *mean : 0;
                sum += weight * own;
                mean += width;
            }
        }
#endif
        value[channel] = sum;
    }
    barrier();
#if LINEAR
    if (life->written > 0)
        add_signal(reading, state, value);
    barrier();
#endif
}

// Answers a query: a row of `answers` [3 + D] (age, its spread, confidence, value), `found` [2] (the first of its
// peaks, and how many they are), and rows of `peaks` [3 + D] (age, weight, confidence, value).
FUNCTION void answer(Reading *reading, const Life *life, const float *constants, const float *state, const u32 *places,
                     u32 constraints, const u32 *channels, const float *targets, float late, u32 most, float *answers,
                     u32 *found, u32 *counter, float *peaks) {
    list(reading, life, constants, state, places, constraints, channels, targets);
#if !LINEAR
    // The means are wanted soon, all at once.
    for (u32 at = THREAD * 32; at < LONG_TERM; at += THREADS * 32)
        prefetch(state + at);
#endif
    float nearest = find_density(reading);
    float mean = 0, variance = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        mean += reading->mass[cell] * reading->age[cell];
    mean = sum_of_all(mean);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float off = reading->age[cell] - mean;
        // The variance of so many evenly spaced observations; one is exactly as old as it is.
        float squares = fmaxf(reading->length[cell] * reading->length[cell] - 1, 0);
        variance += reading->mass[cell] *
                    (off * off + squares * reading->interval[cell] * reading->interval[cell] * (1 / 12.0f));
    }
    variance = sum_of_all(variance);
    float best = expf(-SHARPNESS * nearest);
    find_peaks(reading, most, counter);
    if (THREAD == 0) {
        answers[0] = mean + late;
        answers[1] = sqrtf(variance);
        answers[2] = best;
        found[0] = reading->first_peak;
        found[1] = reading->peaks;
    }
    find_expected(reading, life, constants, state, reading->mass, 0, reading->cells, answers + 3);
    float *rows = peaks + (u64)reading->first_peak * (3 + D);
    for (u32 number = 0; number < reading->peaks; number++) {
        u32 peak = reading->chosen[number];
        u32 from = reading->start[peak], to = reading->start[peak + 1];
        float least = NEAR * reading->height[peak], mass = reading->peak_mass[peak];
        float age = 0;
        for (u32 cell = from + THREAD; cell < to; cell += THREADS) {
            // The peak proper: the others of its basin weigh nothing.
            reading->weight[cell] = reading->similarity[cell] >= least && mass > 0 ? reading->mass[cell] / mass : 0;
            age += reading->weight[cell] * reading->age[cell];
        }
        barrier();
        age = sum_of_all(age);
        float *row = rows + number * (3 + D);
        if (THREAD == 0) {
            row[0] = age + late;
            row[1] = mass;
            row[2] = best * reading->height[peak];
        }
        find_expected(reading, life, constants, state, reading->weight, from, to, row + 3);
    }
}

// One turn.
FUNCTION void take_turn(Room *room, const Turn *turn, const float *observations, const u32 *writes,
                        const u32 *query_starts, const u32 *channels, const float *targets, const float *constants,
                        const float *maps, float *states, u32 *all_places, float *answers, u32 *found, u32 *counter,
                        float *peaks) {
    Life life = {turn->head, turn->held, turn->seen, turn->written};
    float *state = states + (u64)turn->slot * STATE;
    u32 *places = all_places + (u64)turn->slot * PLACES;
    u32 taken = 0, write = turn->first_write;
    for (;;) {
        if (life.held >= RING) {
#if LINEAR
#if AXIS == UNIFORM
            u32 map = writes[write++];
#else
            u32 map = life.written > 0;
#endif
            write_chunk(&room->writing, &life, state, maps + (u64)map * (N + L) * N);
            life.head = (life.head + L) % RING;
            life.held -= L;
            life.written = life.written < 0xffffffffu - L ? life.written + L : life.written;
#else
            for (u32 row = 0; row < L; row++) {
                push(&room->writing, &life, constants, state, places);
                life.head = (life.head + 1) % RING;
                life.held--;
                life.written = life.written < 0xffffffffu ? life.written + 1 : life.written;
            }
#endif
        }
        if (taken == turn->observations)
            break;
        observe(&life, state, observations + (u64)(turn->first_observation + taken) * ROW);
        life.seen = life.seen < 0xffffffffu ? life.seen + 1 : life.seen;
        life.held++;
        taken++;
        barrier();
    }
    (void)maps;
    (void)writes;
    (void)write;
    // Of nothing there is nothing to say.
    u32 queries = life.seen > 0 ? turn->queries : 0;
    for (u32 number = 0; number < queries; number++) {
        u32 query = turn->first_query + number;
        u32 first = query_starts[query], constraints = query_starts[query + 1] - first;
        answer(&room->reading, &life, constants, state, places, constraints, channels + first, targets + first,
               turn->late, turn->peaks, answers + (u64)query * (3 + D), found + (u64)query * 2, counter, peaks);
    }
}

// Bytes of the memory that a block shares: for the constants, and for each agent.
KERNEL measure_room(u32 *bytes) {
    bytes[0] = 4 * SHARED_CONSTANTS;
    bytes[1] = (u32)sizeof(Room);
}

KERNEL tick(const Turn *turns, const float *observations, const u32 *writes, const u32 *query_starts,
            const u32 *channels, const float *targets, const float *all_constants, const float *maps, float *states,
            u32 *places, float *answers, u32 *found, u32 *counter, float *peaks, u32 count) {
    SHARED(shared, room);
#if SHARED_CONSTANTS
    for (u32 at = AGENT * THREADS + THREAD; at < CONSTANTS; at += AGENTS * THREADS)
        shared[at] = all_constants[at];
    everybody();
    const float *constants = shared;
#else
    const float *constants = all_constants;
#endif
    // Chunks of neighbours fill at fixed distances: by a prime number, so that no warp has all of them.
    u32 own = FIRST_TURN;
    for (u32 first = 0; first < count; first += TURNS_AT_ONCE) {
        if (first + own < count)
            take_turn(room, turns + first + own, observations, writes, query_starts, channels, targets, constants, maps,
                      states, places, answers, found, counter, peaks);
        own = own + 7 < TURNS_AT_ONCE ? own + 7 : (own + 7) % TURNS_AT_ONCE;
        barrier();
    }
}
