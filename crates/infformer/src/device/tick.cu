// One tick of many agents on a device: the threads of a warp take an agent's observations, write what leaves its
// short-term ring, and answer its queries. Nothing of the state leaves the device.
//
// The host puts two texts in front: the numbers of one configuration, so that every loop has a length that the compiler
// knows, and a prelude with the words of the device: KERNEL, FUNCTION, SHARED, ALIGNED, CONSTANT, UNROLL, UNROLL_BY,
// INFINITY, OUTLINED, THREAD (of THREADS, of an agent), AGENT (of AGENTS in a block), FIRST_TURN, TURNS_AT_ONCE,
// barrier, everybody, exchange, exchange_place, earlier, earlier_count, passing, prefetch, reserve and quotient. What is
// left is plain C, so that an ordinary program can run it too, with threads for threads.
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
// Words of each array that a thread fetches before it puts the first one down, groups whose rows are fetched at once,
// and rows that are summed at once.
#define FETCHED (LINEAR ? 4 : 2)
#define TOGETHER (G < 2 ? G : 2)
#define SUMMED (LINEAR ? 16 : 17)
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

// The cells of an agent and the density over them. What is needed at different times has one place: the smaller this
// is, the more of the state stays in the cache beside it.
typedef struct {
    float interval[MOST_CELLS];
    // First the squared distance.
    float similarity[MOST_CELLS];
    union {
        struct {
            float newer[MOST_CELLS];
            float length[MOST_CELLS];
        };
        // Once peaks are looked for, every peak: where it begins (and the next does), its height and mass; then the
        // heaviest.
        struct {
            u32 start[MOST_PEAKS + 1];
            float height[MOST_PEAKS];
            float peak_mass[MOST_PEAKS];
            u32 chosen[PEAKS + 1];
        };
    };
    union {
        // While cells are listed, what is asked for.
        struct {
#if LINEAR
            // Rows of Bᵀ beside each other.
            ALIGNED float coefficients[LINES * N];
#else
            // Of blocks of all groups, newest first: the ages of the older ends, and in which block of each other group
            // they end.
            u64 ends[G * N];
            unsigned short partner[G * G * N];
#endif
            u32 channels[D];
            float targets[D];
            float precisions[D];
        };
        struct {
            float age[MOST_CELLS];
            float mass[MOST_CELLS];
            // Work space, then the weights of one peak's cells.
            float weight[MOST_CELLS];
        };
    };
    u32 cells;
    u32 peaks;
    u32 first_peak;
    // How much the rows of the ring weigh.
    float ring_weights[RING];
#if LINEAR
    float expectations[N];
#else
    // Blocks of all groups, newest first: rows, numbers of newer cells, numbers of knots.
    unsigned short rows[G * N];
    unsigned short until[G * N];
    union {
        float knots[G * N];
        // Then how much the blocks weigh, by their rows.
        float row_weights[G * (N + 1)];
    };
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

// Every thread has every THREADS-th. The rounds are few and not unrolled: the shorter the program, the less often its
// instructions have to be fetched.
#define EACH(NAME, COUNT) UNROLL_BY(1) for (u32 NAME = THREAD; NAME < (COUNT); NAME += THREADS)

// Brings words that are wanted soon nearer.
FUNCTION void bring(const float *words, u32 from, u32 to) {
    for (u32 at = from / 32 * 32 + THREAD * 32; at < to; at += THREADS * 32)
        prefetch(words + at);
}

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

// Σ of the values of the threads before this one.
#define SUM_BEFORE(NAME, TYPE, EARLIER)                                                                                \
    FUNCTION TYPE NAME(TYPE own) {                                                                                     \
        UNROLL                                                                                                         \
        for (u32 step = 1; step < THREADS; step *= 2) {                                                                \
            TYPE before = EARLIER(own, step);                                                                          \
            own += THREAD >= step ? before : 0;                                                                        \
        }                                                                                                              \
        TYPE before = EARLIER(own, 1);                                                                                 \
        return THREAD > 0 ? before : 0;                                                                                \
    }
SUM_BEFORE(sum_before, float, earlier)

// Turns `count` shared values into their running sums. The values were stored before a barrier.
#define RUNNING_SUMS(NAME, TYPE, BEFORE)                                                                               \
    FUNCTION void NAME(TYPE *values, u32 count) {                                                                      \
        u32 each = (count + THREADS - 1) / THREADS;                                                                    \
        u32 from = THREAD * each < count ? THREAD * each : count;                                                      \
        u32 to = from + each < count ? from + each : count;                                                            \
        TYPE own = 0;                                                                                                  \
        UNROLL_BY(1)                                                                                                   \
        for (u32 at = from; at < to; at++)                                                                             \
            own += values[at];                                                                                         \
        TYPE sum = BEFORE(own);                                                                                        \
        UNROLL_BY(1)                                                                                                   \
        for (u32 at = from; at < to; at++)                                                                             \
            sum = values[at] += sum;                                                                                   \
        barrier();                                                                                                     \
    }

// 1/scale² of a channel.
FUNCTION float precision(const float *constants, const float *state, u32 channel) {
    float given = constants[PRECISION_AT + channel];
    if (given > 0)
        return given;
    // A channel that never moved yet: differences below its rounding do not count.
    float mean = state[MEAN_AT + channel];
    return 1 / fmaxf(fmaxf(state[VARIANCE_AT + channel], 1e-12f * mean * mean), 1.0842022e-19f);
}

// What a thread has in hand in a strip of a long loop; beyond the end the last one.
FUNCTION u32 place_of(u32 first, u32 strip, u32 count) {
    u32 at = first + strip * THREADS + THREAD;
    return at < count ? at : count - 1;
}

// Where in the ring the observation is that is `age` observations old.
FUNCTION u32 ring_row(const Life *life, u32 age) {
    u32 row = life->head + life->held - 1 - age;
    return row < RING ? row : row - RING;
}

// Puts an observation into the ring and the statistics.
FUNCTION void observe(const Life *life, float *state, const float *row) {
    float *place = state + RING_AT + (life->head + life->held) % RING * ROW;
    float share = 1 / (float)(life->seen < STATISTICS_MEMORY ? life->seen + 1 : STATISTICS_MEMORY);
    EACH(channel, ROW) {
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
        EACH(at, ROWS * N) {
            u32 line = at / N, n = at % N;
            inputs[n * ROWS + line] = from == 0 && row + line < ROW ? state[row * N + at] : 0;
        }
        EACH(at, L * ROWS) {
            u32 k = at / ROWS, line = at % ROWS, place = (life->head + k) % RING;
            inputs[N * ROWS + at] = row + line < ROW ? state[RING_AT + place * ROW + row + line] : 0;
        }
        barrier();
        for (u32 first = 0; first < N; first += STRIPS * THREADS) {
            float sums[STRIPS][ROWS];
            const float *factors[STRIPS], *input = inputs + from * ROWS;
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++) {
                u32 n = place_of(first, strip, N);
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
    EACH(cell, CELLS) {
        float newer = age_at(constants, cell, written);
        float older = age_at(constants, cell + 1, written);
        reading->newer[life->held + cell] = newer + (float)life->held;
        reading->length[life->held + cell] = fminf(older, written) - newer;
        if (newer < written && (cell + 1 == CELLS || older >= written))
            reading->cells = life->held + cell + 1;
    }
    for (u32 tile = 0; tile < 1 + constraints; tile += LINES) {
        for (u32 first = 0; first < LINES * N; first += FETCHED * THREADS) {
            float fetched[FETCHED];
            UNROLL
            for (u32 line = 0; line < FETCHED; line++) {
                u32 at = place_of(first, line, LINES * N), number = tile + at / N;
                u32 row = number == 0 || number > constraints ? D : reading->channels[number - 1];
                fetched[line] = state[row * N + at % N];
            }
            UNROLL
            for (u32 line = 0; line < FETCHED; line++) {
                u32 at = first + line * THREADS + THREAD;
                if (at < LINES * N)
                    reading->coefficients[at % N * LINES + at / N] = fetched[line];
            }
        }
        barrier();
        for (u32 first = 0; first < COLUMNS; first += STRIPS * THREADS) {
            float even[STRIPS][LINES] = {{0}}, odd[STRIPS][LINES] = {{0}};
            const float *psi[STRIPS], *own = reading->coefficients;
            UNROLL
            for (u32 strip = 0; strip < STRIPS; strip++)
                psi[strip] = constants + PSI_AT + place_of(first, strip, COLUMNS);
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
        EACH(cell, COLUMNS) {
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
                psi[strip] = constants + PSI_AT + place_of(first, strip, N) * PITCH;
            UNROLL_BY(8)
            for (u32 column = 0; column < COLUMNS; column++) {
                UNROLL
                for (u32 strip = 0; strip < STRIPS; strip++)
                    sum[strip] += *folded * *psi[strip]++;
                folded++;
            }
        } else {
            UNROLL_BY(1)
            for (u32 cell = from; cell < to; cell++) {
                UNROLL
                for (u32 strip = 0; strip < STRIPS; strip++)
                    sum[strip] += weights[life->held + cell] * psi_of(constants, place_of(first, strip, N), cell);
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
                u32 n = place_of(stretch, strip, N);
                float own = stretch + strip * THREADS + THREAD < N ? reading->expectations[n] : 0;
                const float *coefficients = state + first * N + n;
                UNROLL
                for (u32 line = 0; line < TILE; line++)
                    sums[line] += own * passing(coefficients + (first + line < D ? line : D - 1 - first) * N);
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

RUNNING_SUMS(running_sums, float, sum_before)
SUM_BEFORE(count_before, u64, earlier_count)
RUNNING_SUMS(running_counts, u64, count_before)

CONSTANT const u32 GROUPS[G + 1] = {GROUP_STARTS};

// Where the means of a group begin; its rows have its channels and the interval.
FUNCTION u32 means_of(u32 group) { return (N + 1) * (GROUPS[group] + group); }

FUNCTION u32 row_width(u32 group) { return GROUPS[group + 1] - GROUPS[group] + 1; }

// Every block of every group is one thread's.
#define EACH_BLOCK                                                                                                     \
    for (u32 group = 0; group < G; group++)                                                                            \
        EACH(block, count)

FUNCTION u32 group_of(u32 channel) {
    u32 group = 0;
    while (group + 1 < G && channel >= GROUPS[group + 1])
        group++;
    return group;
}

// A block and its newer neighbour in a group.
typedef struct {
    u32 group;
    u32 older;
} Pair;

// The most channels of some groups.
FUNCTION u32 widest(u32 first) {
    u32 most = 0;
    UNROLL
    for (u32 group = first; group < first + TOGETHER; group++)
        if (group < G && row_width(group) - 1 > most)
            most = row_width(group) - 1;
    return most;
}

// l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d of each of some pairs, whose groups have at most `width` channels. What all need from afar
// is fetched at once.
FUNCTION void find_losses(const Writing *writing, const float *constants, const float *state, u32 width,
                          const Pair *pairs, u32 count, float *losses) {
    UNROLL
    for (u32 pair = 0; pair < count; pair++)
        losses[pair] = 0;
    EACH(at, width) {
        float differences[2 * TOGETHER];
        UNROLL
        for (u32 pair = 0; pair < count; pair++) {
            u32 group = pairs[pair].group, own = row_width(group), older = pairs[pair].older;
            const u32 *order = writing->groups[group].order + older;
            const float *rows = state + means_of(group) + (at < own - 1 ? at : 0);
            differences[pair] = rows[order[0] * own] - rows[order[1] * own];
        }
        UNROLL
        for (u32 pair = 0; pair < count; pair++) {
            u32 group = pairs[pair].group;
            if (at < row_width(group) - 1)
                losses[pair] +=
                    precision(constants, state, GROUPS[group] + at) * differences[pair] * differences[pair];
        }
    }
    UNROLL
    for (u32 pair = 0; pair < count; pair++) {
        const Pair *own = pairs + pair;
        const u32 *lengths = writing->groups[own->group].lengths + own->older;
        float l1 = (float)lengths[0], l2 = (float)lengths[1], channels = (float)(row_width(own->group) - 1);
        losses[pair] = fminf(l1 * l2 / (l1 + l2) * sum_of_all(losses[pair]) / channels, 3.4028235e38f);
    }
}

// The older block of the pair whose merging costs least; ties go to the oldest.
FUNCTION u32 cheapest(Pushed *writing, float variance) {
    // From the newest on: ages of the blocks' newer ends.
    EACH(at, N)
        writing->ages[at + 1] = (float)writing->lengths[N - at];
    if (THREAD == 0)
        writing->ages[0] = 0;
    barrier();
    running_sums(writing->ages + 1, N);
    float lowest = INFINITY;
    u32 place = 0;
    EACH(pair, N) {
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

// Everything newer than a merged pair moves up by one, a stretch of threads at a time. The row of its newer block is
// free: the next observation's.
FUNCTION void close_gap(Pushed *pushed, u32 older) {
    u32 free = pushed->order[older + 1];
    barrier();
    for (u32 from = older + 1; from < N; from += THREADS) {
        u32 at = from + THREAD, order = 0, moved = 0;
        float own = 0;
        if (at < N) {
            order = pushed->order[at + 1];
            moved = pushed->lengths[at + 1];
            own = pushed->losses[at];
        }
        barrier();
        if (at < N) {
            pushed->order[at] = order;
            pushed->lengths[at] = moved;
            pushed->losses[at - 1] = own;
        }
        barrier();
    }
    if (THREAD == 0) {
        pushed->order[N] = free;
        pushed->lengths[N] = 0;
    }
}

// Merges the cheapest pair of each of some groups.
FUNCTION void merge(Writing *writing, const float *constants, float *state, u32 first) {
    u32 width = widest(first);
    Pair pairs[2 * TOGETHER];
    float parts[TOGETHER], losses[2 * TOGETHER];
    UNROLL
    for (u32 own = 0; own < TOGETHER; own++) {
        u32 group = first + own < G ? first + own : G - 1;
        pairs[own].group = group;
        pairs[own].older = 0;
        parts[own] = 0;
        if (first + own >= G)
            continue;
        float variance = 0;
        for (u32 channel = GROUPS[group] + THREAD; channel < GROUPS[group + 1]; channel += THREADS)
            variance += state[VARIANCE_AT + channel] * precision(constants, state, channel);
        variance = sum_of_all(variance) / (float)(row_width(group) - 1);
        Pushed *pushed = &writing->groups[group];
        u32 older = cheapest(pushed, variance);
        pairs[own].older = older;
        u64 both = (u64)pushed->lengths[older] + pushed->lengths[older + 1];
        u32 length = both < 0xffffffffu ? (u32)both : 0xffffffffu;
        parts[own] = (float)pushed->lengths[older + 1] / (float)length;
        barrier();
        if (THREAD == 0)
            pushed->lengths[older] = length;
    }
    EACH(at, width + 1) {
        float *kept[TOGETHER], before[TOGETHER], merged[TOGETHER];
        UNROLL
        for (u32 own = 0; own < TOGETHER; own++) {
            u32 group = pairs[own].group, row = row_width(group);
            const u32 *order = writing->groups[group].order + pairs[own].older;
            float *rows = state + means_of(group) + at;
            kept[own] = rows + order[0] * row;
            before[own] = at < row ? *kept[own] : 0;
            merged[own] = at < row ? rows[order[1] * row] : 0;
        }
        UNROLL
        for (u32 own = 0; own < TOGETHER; own++)
            if (at < row_width(pairs[own].group) && first + own < G)
                *kept[own] = before[own] + (merged[own] - before[own]) * parts[own];
    }
    barrier();
    UNROLL
    for (u32 own = 0; own < TOGETHER; own++)
        if (first + own < G)
            close_gap(&writing->groups[first + own], pairs[own].older);
    barrier();
    // With its older and its newer neighbour, where there is one.
    u32 merged[TOGETHER];
    UNROLL
    for (u32 own = 0; own < TOGETHER; own++) {
        u32 older = merged[own] = pairs[own].older;
        pairs[own].older = older > 0 ? older - 1 : 0;
        pairs[TOGETHER + own].group = pairs[own].group;
        pairs[TOGETHER + own].older = older < N - 1 ? older : 0;
    }
    find_losses(writing, constants, state, width, pairs, 2 * TOGETHER, losses);
    UNROLL
    for (u32 own = 0; own < TOGETHER; own++) {
        if (THREAD != 0 || first + own >= G)
            continue;
        float *found = writing->groups[first + own].losses;
        if (merged[own] > 0)
            found[merged[own] - 1] = losses[own];
        if (merged[own] < N - 1)
            found[merged[own]] = losses[TOGETHER + own];
    }
    barrier();
}

// Pushes the oldest observation of the ring into every group's blocks. What all groups need from afar is fetched at
// once.
OUTLINED void push(Writing *writing, const Life *life, const float *constants, float *state, u32 *places) {
    const float *row = state + RING_AT + life->head * ROW;
    float *losses = state + LOSSES_AT;
    u32 *lengths = places + G * (N + 1);
    u32 count = life->written < N ? life->written : N;
    for (u32 first = 0; first < G * (N + 1); first += FETCHED * THREADS) {
        u32 orders[FETCHED], own_lengths[FETCHED];
        float own_losses[FETCHED];
        UNROLL
        for (u32 line = 0; line < FETCHED; line++) {
            u32 at = place_of(first, line, G * (N + 1));
            orders[line] = places[at];
            own_lengths[line] = lengths[at];
            own_losses[line] = losses[at];
        }
        UNROLL
        for (u32 line = 0; line < FETCHED; line++) {
            u32 at = first + line * THREADS + THREAD, block = at % (N + 1);
            if (at >= G * (N + 1))
                continue;
            Pushed *own = &writing->groups[at / (N + 1)];
            own->order[block] = orders[line];
            own->lengths[block] = block == count ? 1 : own_lengths[line];
            own->losses[block] = own_losses[line];
        }
    }
    barrier();
    // The channels, then the interval as often as there are groups.
    for (u32 first = 0; first < D + G; first += FETCHED * THREADS) {
        float values[FETCHED];
        UNROLL
        for (u32 line = 0; line < FETCHED; line++) {
            u32 at = place_of(first, line, D + G);
            values[line] = row[at < D ? at : D];
        }
        UNROLL
        for (u32 line = 0; line < FETCHED; line++) {
            u32 at = first + line * THREADS + THREAD;
            if (at >= D + G)
                continue;
            u32 group = at < D ? group_of(at) : at - D, width = row_width(group);
            u32 own = at < D ? at - GROUPS[group] : width - 1;
            state[means_of(group) + writing->groups[group].order[count] * width + own] = values[line];
        }
    }
    barrier();
    for (u32 first = 0; count > 0 && first < G; first += TOGETHER) {
        Pair pairs[TOGETHER];
        float found[TOGETHER];
        UNROLL
        for (u32 own = 0; own < TOGETHER; own++) {
            pairs[own].group = first + own < G ? first + own : G - 1;
            pairs[own].older = count - 1;
        }
        find_losses(writing, constants, state, widest(first), pairs, TOGETHER, found);
        UNROLL
        for (u32 own = 0; own < TOGETHER; own++)
            if (THREAD == 0 && first + own < G)
                writing->groups[first + own].losses[count - 1] = found[own];
    }
    barrier();
    for (u32 first = 0; count == N && first < G; first += TOGETHER)
        merge(writing, constants, state, first);
    EACH(at, G * (N + 1)) {
        const Pushed *pushed = &writing->groups[at / (N + 1)];
        places[at] = pushed->order[at % (N + 1)];
        lengths[at] = pushed->lengths[at % (N + 1)];
        losses[at] = pushed->losses[at % (N + 1)];
    }
    barrier();
}

// The first block of a group whose older end is at least so old.
FUNCTION u32 block_at(const u64 *ends, u32 count, u64 end) {
    u32 newer = 0;
    UNROLL
    for (u32 step = 1u << 31; step > 0; step /= 2) {
        u32 there = newer + step;
        if (step <= N && there <= count && ends[there - 1] < end)
            newer = there;
    }
    return newer;
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
        float interval = state[means_of(clock) + (there + 1) * row_width(clock) - 1];
        float distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            u32 channel = reading->channels[number], other = group_of(channel);
            there = reading->rows[other * N + reading->partner[(other * G + group) * N + block]];
            float value = state[means_of(other) + there * row_width(other) + channel - GROUPS[other]];
            float difference = value - reading->targets[number];
            distance += reading->precisions[number] * difference * difference;
        }
        reading->interval[cell] = interval;
        reading->similarity[cell] = distance;
    }
    barrier();
}

#endif

// Ages of the middles of the cells, in ticks. Every thread has some cells beside each other.
FUNCTION void find_ages(Reading *reading) {
    u32 each = (reading->cells + THREADS - 1) / THREADS;
    u32 from = THREAD * each < reading->cells ? THREAD * each : reading->cells;
    u32 to = from + each < reading->cells ? from + each : reading->cells;
    float own = 0;
    UNROLL_BY(1)
    for (u32 cell = from; cell < to; cell++)
        own += reading->length[cell] * reading->interval[cell];
    float tick = sum_before(own);
    UNROLL_BY(1)
    for (u32 cell = from; cell < to; cell++) {
        float length = reading->length[cell], interval = reading->interval[cell];
        reading->age[cell] = tick + 0.5f * fmaxf(length - 1, 0) * interval;
        tick += length * interval;
    }
    barrier();
}

// Lists an agent's cells, newest first, with their distances to the query.
FUNCTION void list(Reading *reading, const Life *life, const float *constants, const float *state, const u32 *places,
                   u32 constraints, const u32 *channels, const float *targets) {
    if (THREAD == 0)
        reading->cells = life->held;
    EACH(number, constraints) {
        reading->channels[number] = channels[number];
        reading->targets[number] = targets[number];
        reading->precisions[number] = precision(constants, state, channels[number]);
    }
    barrier();
    EACH(age, life->held) {
        const float *row = state + RING_AT + ring_row(life, age) * ROW;
        reading->newer[age] = (float)age;
        reading->length[age] = 1;
        float interval = row[D], distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            float difference = row[reading->channels[number]] - reading->targets[number];
            distance += reading->precisions[number] * difference * difference;
        }
        reading->interval[age] = interval;
        reading->similarity[age] = distance;
    }
    if (life->written > 0)
        list_long_term(reading, life, constants, state, places, constraints);
    barrier();
    find_ages(reading);
}

// The coordinate of an age on the axis of the measure.
FUNCTION float coordinate(float age) {
#if RECENCY
    return log1pf(age / MEASURE_RESOLUTION);
#else
    return age;
#endif
}

// Fills in the similarity and the density of each cell; gives the least distance. `mean_age` is the age that it expects.
FUNCTION float find_density(Reading *reading, float *mean_age) {
    float nearest = INFINITY;
    EACH(cell, reading->cells) {
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
    EACH(cell, reading->cells) {
        // As on the host, what is next to nothing is nothing: no peaks among roundings.
        float exponent = -SHARPNESS * fmaxf(reading->similarity[cell] - nearest, 0);
        reading->similarity[cell] = exponent < -87 ? 0 : expf(exponent);
        reading->mass[cell] *= reading->similarity[cell];
        total += reading->mass[cell];
    }
    total = sum_of_all(total);
    total = total > 0 ? 1 / total : 0;
#if GAUSSIAN
    EACH(cell, reading->cells)
        reading->mass[cell] *= total;
    // The Gaussian with the same mean and variance on the axis of the measure.
    float mean = 0, variance = 0;
    EACH(cell, reading->cells) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        mean += reading->mass[cell] * 0.5f * (newer + older);
    }
    mean = sum_of_all(mean);
    EACH(cell, reading->cells) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        float off = 0.5f * (newer + older) - mean;
        variance += reading->mass[cell] * (off * off + (older - newer) * (older - newer) / 12);
    }
    float scale = 0.70710678f / fmaxf(sqrtf(sum_of_all(variance)), 1.1754944e-38f);
    total = 0;
    EACH(cell, reading->cells) {
        float newer = coordinate(reading->newer[cell]),
              older = coordinate(reading->newer[cell] + reading->length[cell]);
        float from = (newer - mean) * scale, to = (older - mean) * scale;
        // Of the two tails the thinner one: near 2 the difference would be lost.
        reading->mass[cell] = 0.5f * (from + to > 0 ? erfcf(from) - erfcf(to) : erfcf(-to) - erfcf(-from));
        total += reading->mass[cell];
    }
    total = sum_of_all(total);
    total = total > 0 ? 1 / total : 0;
#endif
    float age = 0;
    EACH(cell, reading->cells) {
        float mass = reading->mass[cell] *= total;
        age += mass * reading->age[cell];
    }
    *mean_age = sum_of_all(age);
    barrier();
    return nearest;
}

// Splits the cells into basins around the maxima of the similarity and chooses the heaviest, heaviest first.
FUNCTION void find_peaks(Reading *reading, u32 most, u32 *counter) {
    // Nobody reads lengths any more.
    barrier();
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
    EACH(peak, reading->peaks) {
        float mass = 0, least = NEAR * reading->height[peak];
        for (u32 cell = reading->start[peak]; cell < reading->start[peak + 1]; cell++)
            mass += reading->similarity[cell] >= least ? reading->mass[cell] : 0;
        reading->peak_mass[peak] = mass;
    }
    barrier();
    EACH(peak, reading->peaks) {
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

// Σ weight·word over a few rows, at once. Of the whole past nearly every row weighs something; where that is not so,
// those that weigh nothing are not fetched.
FUNCTION float sum_of_some(const float *weights, const float *words, u32 count, u32 width, u32 is_whole) {
    float own[SUMMED], sum = 0;
    UNROLL
    for (u32 row = 0; row < count; row++)
        own[row] = is_whole || weights[row] > 0 ? passing(words + row * width) : 0;
    UNROLL
    for (u32 row = 0; row < count; row++)
        sum += weights[row] * own[row];
    return sum;
}

// Σ weight·word over rows of an array, one word of each, in as few rounds as can be, of which all but the last are
// equal: `count` is a number that the compiler knows.
FUNCTION float sum_rows(const float *weights, const float *words, u32 count, u32 width, u32 is_whole) {
    const u32 rounds = (count + SUMMED - 1) / SUMMED, each = (count + rounds - 1) / rounds;
    float sum = 0;
    UNROLL_BY(1)
    for (u32 round = 1; round < rounds; round++) {
        sum += sum_of_some(weights, words, each, width, is_whole);
        weights += each;
        words += each * width;
    }
    return sum + sum_of_some(weights, words, count - (rounds - 1) * each, width, is_whole);
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
    EACH(at, G * (N + 1))
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
    // By the rows of the ring, as they lie.
    EACH(row, RING) {
        u32 age = (life->head + life->held - 1 + RING - row) % RING;
        reading->ring_weights[row] = age >= from && age < recent ? weights[age] : 0;
    }
    barrier();
    // A linear signal's ring is partly empty.
    u32 is_whole = !LINEAR && weights == reading->mass;
    EACH(channel, D) {
        float sum = sum_rows(reading->ring_weights, state + RING_AT + channel, RING, ROW, is_whole);
#if !LINEAR
        u32 group = group_of(channel);
        const float *means = state + means_of(group) + channel - GROUPS[group];
        sum += sum_rows(reading->row_weights + group * (N + 1), means, N + 1, row_width(group), is_whole);
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
    bring(state, 0, LONG_TERM);
#endif
    float mean, variance = 0, nearest = find_density(reading, &mean);
    EACH(cell, reading->cells) {
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
    // All but the signal: where many agents have all of theirs brought, it is gone again when it is wanted.
    bring(state, LONG_TERM, STATE);
    bring((const float *)places, 0, PLACES);
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
