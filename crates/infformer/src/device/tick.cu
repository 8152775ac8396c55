// One tick of many agents on a device: a block of threads takes an agent's observations, writes what leaves its
// short-term ring, and answers its queries. Nothing of the state leaves the device.
//
// The host puts two texts in front: the numbers of one configuration, so that every loop has a length that the compiler
// knows, and a prelude with KERNEL, FUNCTION, ROOM, CONSTANT, THREAD, TURN, barrier, sum_of_8 and reserve. What is
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

// Where the parts of an agent's floats begin. The signal is at the start.
#define RING_AT LONG_TERM
#define MEAN_AT (RING_AT + RING * ROW)
#define VARIANCE_AT (MEAN_AT + D)
#define LOSSES_AT (VARIANCE_AT + D)

// Where the parts of the constants begin: 1/scale² (0 where it is learnt), ages at the cells' ends, ψ at the cells and
// its transpose.
#define PRECISION_AT 0
#define AGES_AT D
#define PSI_AT (AGES_AT + CELLS + 1)
#define TRANSPOSED_AT (PSI_AT + CELLS * N)

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

// The cells of an agent and the density over them.
typedef struct {
    float newer[MOST_CELLS];
    float length[MOST_CELLS];
    float interval[MOST_CELLS];
    float age[MOST_CELLS];
    float distance[MOST_CELLS];
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
#if LINEAR
    // Rows of Bᵀ, four beside each other.
    float coefficients[4 * N];
    float expectations[(PEAKS + 1) * N];
#else
    // Blocks of all groups, newest first: ages of the older ends, rows, numbers of newer cells, weights.
    u64 ends[G * N];
    u32 rows[G * N];
    u32 until[G * N];
    float block_weights[G * N];
    unsigned short block_of[G * MOST_CELLS];
#endif
} Reading;

#if LINEAR
// Rows of Bᵀ and of the chunk, eight beside each other.
typedef struct {
    float inputs[8 * (N + L)];
} Writing;
#else
// The blocks of one group while an observation is pushed.
typedef struct {
    u32 order[N + 1];
    u32 lengths[N + 1];
    float losses[N + 1];
    float ages[N + 1];
} Writing;
#endif

typedef struct {
    union {
        Reading reading;
        Writing writing;
    } now;
    float partial[THREADS];
    u64 counted[THREADS];
    u32 place[THREADS];
} Room;

// Σ of every thread's value.
FUNCTION float sum_of_all(Room *room, float value) {
    room->partial[THREAD] = sum_of_8(value);
    barrier();
    float sum = 0;
    for (u32 thread = 0; thread < THREADS; thread += 8)
        sum += room->partial[thread];
    barrier();
    return sum;
}

// Least of every thread's values.
FUNCTION float least_of_all(Room *room, float value) {
    room->partial[THREAD] = value;
    barrier();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half)
            room->partial[THREAD] = fminf(room->partial[THREAD], room->partial[THREAD + half]);
        barrier();
    }
    float least = room->partial[0];
    barrier();
    return least;
}

// Turns `count` shared values into their running sums. The values were stored before a barrier.
#define RUNNING_SUMS(NAME, TYPE, SUMS)                                                                                 \
    FUNCTION void NAME(Room *room, TYPE *values, u32 count) {                                                          \
        u32 each = (count + THREADS - 1) / THREADS;                                                                    \
        u32 from = THREAD * each < count ? THREAD * each : count;                                                      \
        u32 to = from + each < count ? from + each : count;                                                            \
        TYPE sum = 0;                                                                                                  \
        for (u32 at = from; at < to; at++)                                                                             \
            sum = values[at] += sum;                                                                                   \
        room->SUMS[THREAD] = sum;                                                                                      \
        barrier();                                                                                                     \
        for (u32 step = 1; step < THREADS; step *= 2) {                                                                \
            TYPE before = THREAD >= step ? room->SUMS[THREAD - step] : 0;                                              \
            barrier();                                                                                                 \
            room->SUMS[THREAD] += before;                                                                              \
            barrier();                                                                                                 \
        }                                                                                                              \
        TYPE before = THREAD > 0 ? room->SUMS[THREAD - 1] : 0;                                                         \
        for (u32 at = from; at < to; at++)                                                                             \
            values[at] += before;                                                                                      \
        barrier();                                                                                                     \
    }
RUNNING_SUMS(running_sums, float, partial)

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
FUNCTION u32 ring_row(const Turn *turn, u32 age) { return (turn->head + turn->held - 1 - age) % RING; }

// Puts an observation into the ring and the statistics.
FUNCTION void observe(const Turn *turn, float *state, const float *row) {
    float *place = state + RING_AT + (turn->head + turn->held) % RING * ROW;
    float share = 1 / (float)(turn->seen < STATISTICS_MEMORY ? turn->seen + 1 : STATISTICS_MEMORY);
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

// B′ = B + (A − I)·B + C·X, eight rows of Bᵀ at a time, in place. `map` is (A − I)ᵀ over Cᵀ; the first chunk of a life
// has no past.
FUNCTION void write_chunk(Room *room, const Turn *turn, float *state, const float *map) {
    float *inputs = room->now.writing.inputs;
    u32 from = turn->written == 0 ? N : 0;
    for (u32 row = 0; row < ROW; row += 8) {
        for (u32 at = THREAD; at < 8 * (N + L); at += THREADS) {
            u32 line = at / (N + L), k = at % (N + L);
            float value = 0;
            if (row + line < ROW) {
                if (k >= N)
                    value = state[RING_AT + (turn->head + k - N) % RING * ROW + row + line];
                else if (from == 0)
                    value = state[(row + line) * N + k];
            }
            inputs[k * 8 + line] = value;
        }
        barrier();
        for (u32 n = THREAD; n < N; n += THREADS) {
            float sum[8];
            for (u32 line = 0; line < 8; line++)
                sum[line] = inputs[n * 8 + line];
            for (u32 k = from; k < N + L; k++) {
                float factor = map[k * N + n];
                for (u32 line = 0; line < 8; line++)
                    sum[line] += inputs[k * 8 + line] * factor;
            }
            for (u32 line = 0; line < 8 && row + line < ROW; line++)
                state[(row + line) * N + n] = sum[line];
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
        reading->distance[cell] = 0;
    } else {
        float difference = value - target;
        reading->distance[cell] += channel_precision * difference * difference;
    }
}

// Lists the long-term cells, with their distances to the query. Bᵀ is read at all of them, four rows at a time.
FUNCTION void list_long_term(Room *room, const Turn *turn, const float *constants, const float *state, const u32 *places,
                             u32 constraints, const u32 *channels, const float *targets) {
    Reading *reading = &room->now.reading;
    (void)places;
    float written = (float)turn->written;
    for (u32 cell = THREAD; cell < CELLS; cell += THREADS) {
        float newer = age_at(constants, cell, written);
        float older = age_at(constants, cell + 1, written);
        reading->newer[turn->held + cell] = newer + (float)turn->held;
        reading->length[turn->held + cell] = fminf(older, written) - newer;
        if (newer < written && (cell + 1 == CELLS || older >= written))
            reading->cells = turn->held + cell + 1;
    }
    for (u32 tile = 0; tile < 1 + constraints; tile += 4) {
        for (u32 at = THREAD; at < 4 * N; at += THREADS) {
            u32 number = tile + at / N, n = at % N;
            u32 row = number == 0 ? D : number <= constraints ? channels[number - 1] : D;
            reading->coefficients[n * 4 + at / N] = state[row * N + n];
        }
        barrier();
        for (u32 column = THREAD; column < COLUMNS; column += THREADS) {
            float even[4] = {0, 0, 0, 0}, odd[4] = {0, 0, 0, 0};
            for (u32 n = 0; n < N; n++) {
                float psi = constants[TRANSPOSED_AT + n * COLUMNS + column];
                for (u32 line = 0; line < 4; line++) {
                    float value = reading->coefficients[n * 4 + line] * psi;
                    if (n % 2 == 0)
                        even[line] += value;
                    else
                        odd[line] += value;
                }
            }
            for (u32 line = 0; line < 4 && tile + line <= constraints; line++) {
                u32 number = tile + line, at = number == 0 ? 0 : number - 1;
                float target = number == 0 ? 0 : targets[at];
                float own = number == 0 ? 0 : precision(constants, state, channels[at]);
                settle(reading, turn->held + column, number, even[line] + odd[line], target, own);
#if HALVES
                settle(reading, turn->held + CELLS - 1 - column, number, even[line] - odd[line], target, own);
#endif
            }
        }
        barrier();
    }
}

// E[ψ] of the weights of the cells of a range.
FUNCTION void expect(Reading *reading, const Turn *turn, const float *constants, const float *weights, u32 from, u32 to,
                     float *expectation) {
    from = from > turn->held ? from - turn->held : 0;
    to = to > turn->held ? to - turn->held : 0;
#if HALVES
    // Of all cells: ψ is even or odd about the middle, so both halves are weighed at once.
    if (weights == reading->mass) {
        for (u32 cell = THREAD; cell < CELLS / 2; cell += THREADS) {
            float newer = cell < to ? weights[turn->held + cell] : 0;
            float older = CELLS - 1 - cell < to ? weights[turn->held + CELLS - 1 - cell] : 0;
            reading->weight[cell] = newer + older;
            reading->weight[CELLS / 2 + cell] = newer - older;
        }
        barrier();
        for (u32 n = THREAD; n < N; n += THREADS) {
            float sum = 0;
            for (u32 cell = 0; cell < CELLS / 2; cell++)
                sum += reading->weight[n % 2 * (CELLS / 2) + cell] * constants[PSI_AT + cell * N + n];
            expectation[n] = sum;
        }
        return;
    }
#else
    (void)reading;
#endif
    for (u32 n = THREAD; n < N; n += THREADS) {
        float sum = 0;
        for (u32 cell = from; cell < to; cell++)
            sum += weights[turn->held + cell] * constants[PSI_AT + cell * N + n];
        expectation[n] = sum;
    }
}

#else

RUNNING_SUMS(running_counts, u64, counted)

CONSTANT const u32 GROUPS[G + 1] = {GROUP_STARTS};

// Where the means of a group begin; its rows have its channels and the interval.
FUNCTION u32 means_of(u32 group) { return (N + 1) * (GROUPS[group] + group); }

FUNCTION u32 row_width(u32 group) { return GROUPS[group + 1] - GROUPS[group] + 1; }

FUNCTION u32 group_of(u32 channel) {
    u32 group = 0;
    while (group + 1 < G && channel >= GROUPS[group + 1])
        group++;
    return group;
}

// l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d of a block and its newer neighbour.
FUNCTION float loss(Room *room, const float *constants, const float *state, u32 group, u32 older) {
    const Writing *writing = &room->now.writing;
    u32 width = row_width(group);
    const float *left = state + means_of(group) + writing->order[older] * width;
    const float *right = state + means_of(group) + writing->order[older + 1] * width;
    float squared = 0;
    for (u32 channel = THREAD; channel < width - 1; channel += THREADS) {
        float difference = left[channel] - right[channel];
        squared += precision(constants, state, GROUPS[group] + channel) * difference * difference;
    }
    squared = sum_of_all(room, squared);
    float l1 = (float)writing->lengths[older], l2 = (float)writing->lengths[older + 1];
    return fminf(l1 * l2 / (l1 + l2) * squared / (float)(width - 1), 3.4028235e38f);
}

// The older block of the pair whose merging costs least; ties go to the oldest.
FUNCTION u32 cheapest(Room *room, float variance) {
    Writing *writing = &room->now.writing;
    // From the newest on: ages of the blocks' newer ends.
    for (u32 at = THREAD; at < N; at += THREADS)
        writing->ages[at + 1] = (float)writing->lengths[N - at];
    if (THREAD == 0)
        writing->ages[0] = 0;
    barrier();
    running_sums(room, writing->ages + 1, N);
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
    room->partial[THREAD] = lowest;
    room->place[THREAD] = place;
    barrier();
    for (u32 half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) {
            float other = room->partial[THREAD + half];
            u32 there = room->place[THREAD + half];
            if (other < room->partial[THREAD] || (other == room->partial[THREAD] && there < room->place[THREAD])) {
                room->partial[THREAD] = other;
                room->place[THREAD] = there;
            }
        }
        barrier();
    }
    // Where no cost is finite, the two oldest.
    place = room->partial[0] < INFINITY ? room->place[0] : 0;
    barrier();
    return place;
}

// Merges a block with its newer neighbour, whose row becomes free: the next observation's.
FUNCTION void merge(Room *room, const float *constants, float *state, u32 group, u32 older) {
    Writing *writing = &room->now.writing;
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
    for (u32 pair = older > 0 ? older - 1 : 0; pair <= older && pair + 1 <= N - 1; pair++) {
        float own = loss(room, constants, state, group, pair);
        if (THREAD == 0)
            writing->losses[pair] = own;
    }
    barrier();
}

// Pushes the oldest observation of the ring into every group's blocks.
FUNCTION void push(Room *room, const Turn *turn, const float *constants, float *state, u32 *places) {
    Writing *writing = &room->now.writing;
    const float *row = state + RING_AT + turn->head * ROW;
    u32 count = turn->written < N ? turn->written : N;
    for (u32 group = 0; group < G; group++) {
        u32 width = row_width(group);
        u32 *order = places + group * (N + 1), *lengths = places + (G + group) * (N + 1);
        float *losses = state + LOSSES_AT + group * (N + 1);
        float *newest = state + means_of(group) + order[count] * width;
        for (u32 channel = THREAD; channel < width; channel += THREADS)
            newest[channel] = channel + 1 < width ? row[GROUPS[group] + channel] : row[D];
        for (u32 block = THREAD; block < N + 1; block += THREADS) {
            writing->order[block] = order[block];
            writing->lengths[block] = block == count ? 1 : lengths[block];
            writing->losses[block] = losses[block];
        }
        barrier();
        if (count > 0) {
            float own = loss(room, constants, state, group, count - 1);
            if (THREAD == 0)
                writing->losses[count - 1] = own;
        }
        barrier();
        if (count == N) {
            float variance = 0;
            for (u32 channel = GROUPS[group] + THREAD; channel < GROUPS[group + 1]; channel += THREADS)
                variance += state[VARIANCE_AT + channel] * precision(constants, state, channel);
            variance = sum_of_all(room, variance) / (float)(width - 1);
            merge(room, constants, state, group, cheapest(room, variance));
        }
        for (u32 block = THREAD; block < N + 1; block += THREADS) {
            order[block] = writing->order[block];
            lengths[block] = writing->lengths[block];
            losses[block] = writing->losses[block];
        }
        barrier();
    }
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
FUNCTION void list_long_term(Room *room, const Turn *turn, const float *constants, const float *state, const u32 *places,
                             u32 constraints, const u32 *channels, const float *targets) {
    Reading *reading = &room->now.reading;
    u32 count = turn->written < N ? turn->written : N;
    for (u32 at = THREAD; at < G * count; at += THREADS) {
        u32 group = at / count, block = at % count;
        reading->ends[group * N + block] = places[(G + group) * (N + 1) + count - 1 - block];
        reading->rows[group * N + block] = places[group * (N + 1) + count - 1 - block];
    }
    barrier();
    for (u32 group = 0; group < G; group++)
        running_counts(room, reading->ends + group * N, count);
    // A full block counts no further: the blocks of one group may end before those of another.
    u64 oldest = reading->ends[count - 1];
    for (u32 group = 1; group < G; group++)
        oldest = reading->ends[group * N + count - 1] < oldest ? reading->ends[group * N + count - 1] : oldest;
    for (u32 at = THREAD; at < G * count; at += THREADS) {
        u32 group = at / count, block = at % count;
        u64 end = reading->ends[group * N + block];
        float first = end <= oldest ? 1 : 0;
        for (u32 other = 0; other < group; other++) {
            u32 there = block_at(reading->ends + other * N, count, end);
            if (there < count && reading->ends[other * N + there] == end)
                first = 0;
        }
        reading->block_weights[group * N + block] = first;
    }
    barrier();
    // A cell's number is how many knots are newer than its end.
    for (u32 group = 0; group < G; group++)
        running_sums(room, reading->block_weights + group * N, count);
    u32 clock = group_of(channels[0]);
    for (u32 at = THREAD; at < G * count; at += THREADS) {
        u32 group = at / count, block = at % count;
        const float *own = reading->block_weights + group * N;
        u64 end = reading->ends[group * N + block], newer = 0;
        u32 number = 0;
        for (u32 other = 0; other < G; other++) {
            u32 there = block_at(reading->ends + other * N, count, end);
            if (there > 0) {
                u64 before = reading->ends[other * N + there - 1];
                newer = before > newer ? before : newer;
                number += (u32)reading->block_weights[other * N + there - 1];
            }
        }
        reading->until[group * N + block] = number + 1;
        // Where the sum grows, the knot is this group's own.
        if (own[block] == (block > 0 ? own[block - 1] : 0))
            continue;
        u32 cell = turn->held + number;
        if (end == oldest)
            reading->cells = cell + 1;
        reading->newer[cell] = (float)newer + (float)turn->held;
        reading->length[cell] = (float)(end - newer);
        for (u32 other = 0; other < G; other++)
            reading->block_of[other * MOST_CELLS + cell] =
                (unsigned short)block_at(reading->ends + other * N, count, end);
        u32 there = reading->rows[clock * N + reading->block_of[clock * MOST_CELLS + cell]];
        reading->interval[cell] = state[means_of(clock) + (there + 1) * row_width(clock) - 1];
        float distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            u32 channel = channels[number], other = group_of(channel);
            there = reading->rows[other * N + reading->block_of[other * MOST_CELLS + cell]];
            float value = state[means_of(other) + there * row_width(other) + channel - GROUPS[other]];
            float difference = value - targets[number];
            distance += precision(constants, state, channel) * difference * difference;
        }
        reading->distance[cell] = distance;
    }
    barrier();
}

#endif

// Lists an agent's cells, newest first, with their distances to the query.
FUNCTION void list(Room *room, const Turn *turn, const float *constants, const float *state, const u32 *places,
                   u32 constraints, const u32 *channels, const float *targets) {
    Reading *reading = &room->now.reading;
    if (THREAD == 0)
        reading->cells = turn->held;
    barrier();
    for (u32 age = THREAD; age < turn->held; age += THREADS) {
        const float *row = state + RING_AT + ring_row(turn, age) * ROW;
        reading->newer[age] = (float)age;
        reading->length[age] = 1;
        reading->interval[age] = row[D];
        float distance = 0;
        for (u32 number = 0; number < constraints; number++) {
            float difference = row[channels[number]] - targets[number];
            distance += precision(constants, state, channels[number]) * difference * difference;
        }
        reading->distance[age] = distance;
    }
    if (turn->written > 0)
        list_long_term(room, turn, constants, state, places, constraints, channels, targets);
    barrier();
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->weight[cell] = reading->length[cell] * reading->interval[cell];
    barrier();
    running_sums(room, reading->weight, reading->cells);
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
FUNCTION float find_density(Room *room) {
    Reading *reading = &room->now.reading;
    float nearest = INFINITY;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
#if RECENCY
        reading->mass[cell] = log1pf(reading->length[cell] / (reading->newer[cell] + MEASURE_RESOLUTION));
#else
        reading->mass[cell] = reading->length[cell];
#endif
        // Beyond what single arithmetic holds all are as far: their differences stay numbers.
        reading->distance[cell] = fminf(reading->distance[cell], MOST_DISTANCE);
        // A cell without length says nothing of what is nearest.
        if (reading->mass[cell] > 0)
            nearest = fminf(nearest, reading->distance[cell]);
    }
    nearest = least_of_all(room, nearest);
    float total = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        // As on the host, what is next to nothing is nothing: no peaks among roundings.
        float exponent = -SHARPNESS * fmaxf(reading->distance[cell] - nearest, 0);
        reading->similarity[cell] = exponent < -87 ? 0 : expf(exponent);
        reading->mass[cell] *= reading->similarity[cell];
        total += reading->mass[cell];
    }
    total = sum_of_all(room, total);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->mass[cell] /= total;
#if GAUSSIAN
    // The Gaussian with the same mean and variance on the axis of the measure.
    float mean = 0, variance = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]), older = coordinate(reading->newer[cell] + reading->length[cell]);
        mean += reading->mass[cell] * 0.5f * (newer + older);
    }
    mean = sum_of_all(room, mean);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]), older = coordinate(reading->newer[cell] + reading->length[cell]);
        float off = 0.5f * (newer + older) - mean;
        variance += reading->mass[cell] * (off * off + (older - newer) * (older - newer) / 12);
    }
    float scale = 0.70710678f / fmaxf(sqrtf(sum_of_all(room, variance)), 1.1754944e-38f);
    total = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float newer = coordinate(reading->newer[cell]), older = coordinate(reading->newer[cell] + reading->length[cell]);
        reading->mass[cell] = 0.5f * (erfcf((newer - mean) * scale) - erfcf((older - mean) * scale));
        total += reading->mass[cell];
    }
    total = sum_of_all(room, total);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        reading->mass[cell] /= total;
#endif
    barrier();
    return nearest;
}

// Splits the cells into basins around the maxima of the similarity and chooses the heaviest, heaviest first.
FUNCTION void find_peaks(Room *room, u32 most, u32 *counter) {
    Reading *reading = &room->now.reading;
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

// Σ weight·value of the short-term memory, and of the blocks, into `value`; of a linear signal, E[ψ].
FUNCTION void add_expected(Room *room, const Turn *turn, const float *constants, const float *state, const float *weights,
                           u32 from, u32 to, u32 number, float *value) {
    Reading *reading = &room->now.reading;
    u32 recent = to < turn->held ? to : turn->held;
#if LINEAR
    (void)room;
    if (turn->written > 0)
        expect(reading, turn, constants, weights, from, to, reading->expectations + number * N);
#else
    (void)constants;
    (void)number;
    u32 count = turn->written < N ? turn->written : N;
    for (u32 at = THREAD; at < G * count; at += THREADS) {
        u32 group = at / count, block = at % count;
        const u32 *until = reading->until + group * N;
        u32 first = turn->held + (block > 0 ? until[block - 1] : 0), last = turn->held + until[block];
        float weight = 0;
        for (u32 cell = first > from ? first : from; cell < (last < to ? last : to); cell++)
            weight += weights[cell];
        reading->block_weights[group * N + block] = weight;
    }
    barrier();
#endif
    for (u32 channel = THREAD; channel < D; channel += THREADS) {
        float sum = 0;
        for (u32 age = from; age < recent; age++)
            if (weights[age] != 0)
                sum += weights[age] * state[RING_AT + ring_row(turn, age) * ROW + channel];
#if !LINEAR
        u32 group = group_of(channel);
        const float *means = state + means_of(group) + channel - GROUPS[group];
        for (u32 block = 0; block < count; block++)
            if (reading->block_weights[group * N + block] > 0)
                sum += reading->block_weights[group * N + block] *
                       means[reading->rows[group * N + block] * row_width(group)];
#endif
        value[channel] = sum;
    }
    barrier();
}

// Answers a query: a row of `answers` [3 + D] (age, its spread, confidence, value), `found` [2] (the first of its peaks,
// and how many they are), and rows of `peaks` [3 + D] (age, weight, confidence, value).
FUNCTION void answer(Room *room, const Turn *turn, const float *constants, const float *state, const u32 *places,
                     u32 constraints, const u32 *channels, const float *targets, float *answers, u32 *found,
                     u32 *counter, float *peaks) {
    Reading *reading = &room->now.reading;
    list(room, turn, constants, state, places, constraints, channels, targets);
    float nearest = find_density(room);
    float mean = 0, variance = 0;
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS)
        mean += reading->mass[cell] * reading->age[cell];
    mean = sum_of_all(room, mean);
    for (u32 cell = THREAD; cell < reading->cells; cell += THREADS) {
        float off = reading->age[cell] - mean;
        // The variance of so many evenly spaced observations; one is exactly as old as it is.
        float squares = fmaxf(reading->length[cell] * reading->length[cell] - 1, 0);
        variance += reading->mass[cell] * (off * off + squares * reading->interval[cell] * reading->interval[cell] / 12);
    }
    variance = sum_of_all(room, variance);
    float best = expf(-SHARPNESS * nearest);
    find_peaks(room, turn->peaks, counter);
    if (THREAD == 0) {
        answers[0] = mean + turn->late;
        answers[1] = sqrtf(variance);
        answers[2] = best;
        found[0] = reading->first_peak;
        found[1] = reading->peaks;
    }
    add_expected(room, turn, constants, state, reading->mass, 0, reading->cells, 0, answers + 3);
    float *rows = peaks + (u64)reading->first_peak * (3 + D);
    for (u32 number = 0; number < reading->peaks; number++) {
        u32 peak = reading->chosen[number];
        u32 from = reading->start[peak], to = reading->start[peak + 1];
        float least = NEAR * reading->height[peak], mass = reading->peak_mass[peak];
        float share = mass > 0 ? 1 / mass : 0, age = 0;
        for (u32 cell = from + THREAD; cell < to; cell += THREADS) {
            // The peak proper: the others of its basin weigh nothing.
            reading->weight[cell] = reading->similarity[cell] >= least ? reading->mass[cell] * share : 0;
            age += reading->weight[cell] * reading->age[cell];
        }
        age = sum_of_all(room, age);
        float *row = rows + number * (3 + D);
        if (THREAD == 0) {
            row[0] = age + turn->late;
            row[1] = mass;
            row[2] = best * reading->height[peak];
        }
        add_expected(room, turn, constants, state, reading->weight, from, to, number + 1, row + 3);
    }
#if LINEAR
    // The expectations' products with Bᵀ: eight threads a channel.
    if (turn->written > 0) {
        for (u32 first = 0; first < D; first += THREADS / 8) {
            u32 channel = first + THREAD / 8;
            for (u32 number = 0; number <= reading->peaks; number++) {
                float sum = 0;
                if (channel < D)
                    for (u32 n = THREAD % 8; n < N; n += 8)
                        sum += reading->expectations[number * N + n] * state[channel * N + n];
                sum = sum_of_8(sum);
                float *value = number == 0 ? answers + 3 : rows + (number - 1) * (3 + D) + 3;
                if (channel < D && THREAD % 8 == 0)
                    value[channel] += sum;
            }
        }
    }
#endif
    barrier();
}

// Bytes of the memory that a block's threads share.
KERNEL measure_room(u32 *bytes) { *bytes = (u32)sizeof(Room); }

KERNEL tick(const Turn *turns, const float *observations, const u32 *writes, const u32 *query_starts,
            const u32 *channels, const float *targets, const float *constants, const float *maps, float *states,
            u32 *all_places, float *answers, u32 *found, u32 *counter, float *peaks) {
    ROOM(room);
    Turn turn = turns[TURN];
    float *state = states + (u64)turn.slot * STATE;
    u32 *places = all_places + (u64)turn.slot * PLACES;
    u32 taken = 0, write = turn.first_write;
    for (;;) {
        if (turn.held >= RING) {
#if LINEAR
#if AXIS == UNIFORM
            u32 map = writes[write++];
#else
            u32 map = turn.written > 0;
#endif
            write_chunk(room, &turn, state, maps + (u64)map * (N + L) * N);
            turn.head = (turn.head + L) % RING;
            turn.held -= L;
            turn.written = turn.written < 0xffffffffu - L ? turn.written + L : turn.written;
#else
            for (u32 row = 0; row < L; row++) {
                push(room, &turn, constants, state, places);
                turn.head = (turn.head + 1) % RING;
                turn.held--;
                turn.written = turn.written < 0xffffffffu ? turn.written + 1 : turn.written;
            }
#endif
        }
        if (taken == turn.observations)
            break;
        observe(&turn, state, observations + (u64)(turn.first_observation + taken) * ROW);
        turn.seen = turn.seen < 0xffffffffu ? turn.seen + 1 : turn.seen;
        turn.held++;
        taken++;
        barrier();
    }
    (void)maps;
    (void)writes;
    (void)write;
    // Of nothing there is nothing to say.
    u32 queries = turn.seen > 0 ? turn.queries : 0;
    for (u32 number = 0; number < queries; number++) {
        u32 query = turn.first_query + number;
        u32 first = query_starts[query], constraints = query_starts[query + 1] - first;
        answer(room, &turn, constants, state, places, constraints, channels + first, targets + first,
               answers + (u64)query * (3 + D), found + (u64)query * 2, counter, peaks);
    }
}
